"""Textbook formulas in mpmath, with digits to burn: what the accuracy table is measured against.

Nothing here is stable and nothing needs to be: 80 digits plus those that cosh(radius) eats. The curvature
is ``k = -kappa``; square roots of a negative k are complex and the results real, so one ball formula serves
both signs. Source: Ganea et al., arXiv 1805.09112 (ball); Chami et al., arXiv 1910.12933 (hyperboloid).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpmath import mp, mpc, mpf

Numbers = Sequence[float]
Exact = list[mpf]
DIGITS = 80


def exact(values: Numbers) -> Exact:
    """The same numbers, as mpmath sees them."""
    return [mpf(value) for value in values]


def dot(x: Exact, y: Exact) -> mpf:
    """Inner product."""
    return mp.fdot(x, y)


def mix(a: mpf, x: Exact, b: mpf, y: Exact) -> Exact:
    """a x + b y."""
    return [a * p + b * q for p, q in zip(x, y, strict=True)]


def times(a: mpf, x: Exact) -> Exact:
    """a x."""
    return [a * p for p in x]


def over(f: Callable[[mpc], mpc], t: mpc) -> mpf:
    """f(t)/t, 1 at 0; real for real and for imaginary t."""
    return mpf(1) if t == 0 else mp.re(f(t) / t)


@dataclass(frozen=True)
class Ball:
    """The conformal chart: Poincaré ball, plane or stereographic sphere."""

    kappa: float

    @property
    def k(self) -> mpf:
        """-kappa."""
        return -mpf(self.kappa)

    @property
    def s(self) -> mpc:
        """The square root of k."""
        return mp.sqrt(self.k)

    def add(self, x: Exact, y: Exact) -> Exact:
        """Möbius addition."""
        k, xy, xx, yy = self.k, dot(x, y), dot(x, x), dot(y, y)
        below = 1 + 2 * k * xy + k * k * xx * yy
        return mix((1 + 2 * k * xy + k * yy) / below, x, (1 - k * xx) / below, y)

    def expmap0(self, v: Exact) -> Exact:
        """tanh(s|v|/2)/(s|v|) v."""
        return times(over(mp.tanh, self.s * mp.sqrt(dot(v, v)) / 2) / 2, v)

    def logmap0(self, x: Exact) -> Exact:
        """2 atanh(s|x|)/(s|x|) x."""
        return times(2 * over(mp.atanh, self.s * mp.sqrt(dot(x, x))), x)

    def expmap(self, x: Exact, u: Exact) -> Exact:
        """x + tanh(s|u|/alpha)/(s|u|) u, Möbius."""
        alpha = 1 - self.k * dot(x, x)
        return self.add(x, times(over(mp.tanh, self.s * mp.sqrt(dot(u, u)) / alpha) / alpha, u))

    def logmap(self, x: Exact, y: Exact) -> Exact:
        """alpha atanh(s|w|)/(s|w|) w with w = -x + y, Möbius."""
        w = self.add(times(mpf(-1), x), y)
        alpha = 1 - self.k * dot(x, x)
        return times(alpha * over(mp.atanh, self.s * mp.sqrt(dot(w, w))), w)

    def dist(self, x: Exact, y: Exact) -> Exact:
        """2 atanh(s|w|)/s."""
        w = self.add(times(mpf(-1), x), y)
        length = mp.sqrt(dot(w, w))
        return [2 * length * over(mp.atanh, self.s * length)]

    def transp(self, x: Exact, y: Exact, v: Exact) -> Exact:
        """(beta/alpha) gyr[y, -x] v."""
        k, minus = self.k, times(mpf(-1), x)
        below = times(mpf(-1), self.add(y, minus))
        # Gyration is linear, and Möbius sums only stay in the ball for short vectors: scale down and back.
        short = mpf(10) ** -30 / mp.sqrt(dot(v, v)) if dot(v, v) else mpf(1)
        turned = self.add(below, self.add(y, self.add(minus, times(short, v))))
        turned = times(1 / short, turned)
        return times((1 - k * dot(y, y)) / (1 - k * dot(x, x)), turned)


@dataclass(frozen=True)
class Hyperboloid:
    """Space coordinates of the hyperboloid; a tangent vector's time part follows from tangency."""

    kappa: float

    @property
    def k(self) -> mpf:
        """-kappa."""
        return -mpf(self.kappa)

    def time(self, x: Exact) -> mpf:
        """sqrt(1/k + |x|^2)."""
        return mp.sqrt(1 / self.k + dot(x, x))

    def pairing(self, x: Exact, u: Exact, y: Exact, v: Exact) -> mpf:
        """<u, v>_L of vectors tangent at x and at y."""
        return dot(u, v) - dot(x, u) * dot(y, v) / (self.time(x) * self.time(y))

    def angle(self, x: Exact, y: Exact) -> mpf:
        """dist/R."""
        return mp.acosh(max(mpf(1), self.k * (self.time(x) * self.time(y) - dot(x, y))))

    def expmap0(self, v: Exact) -> Exact:
        """sinh(a)/a v."""
        return times(over(mp.sinh, mp.sqrt(self.k * dot(v, v))), v)

    def logmap0(self, x: Exact) -> Exact:
        """asinh(b)/b x."""
        return times(over(mp.asinh, mp.sqrt(self.k * dot(x, x))), x)

    def expmap(self, x: Exact, u: Exact) -> Exact:
        """cosh(a) x + sinh(a)/a u."""
        a = mp.sqrt(self.k * self.pairing(x, u, x, u))
        return mix(mp.cosh(a), x, over(mp.sinh, a), u)

    def logmap(self, x: Exact, y: Exact) -> Exact:
        """a/sinh(a) (y - cosh(a) x)."""
        a = self.angle(x, y)
        return mix(1 / over(mp.sinh, a), y, -mp.cosh(a) / over(mp.sinh, a), x)

    def dist(self, x: Exact, y: Exact) -> Exact:
        """a R."""
        return [self.angle(x, y) / mp.sqrt(self.k)]

    def transp(self, x: Exact, y: Exact, v: Exact) -> Exact:
        """v + k <y, v>_L/(1 + cosh a) (x + y)."""
        onto = dot(y, v) - self.time(y) * dot(x, v) / self.time(x)
        shift = self.k * onto / (1 + mp.cosh(self.angle(x, y)))
        return mix(mpf(1), v, shift, mix(mpf(1), x, mpf(1), y))


@dataclass(frozen=True)
class Round:
    """The sphere in ambient coordinates; points are scaled to it and tangent vectors projected first."""

    kappa: float

    @property
    def s(self) -> mpf:
        """1/R."""
        return mp.sqrt(mpf(self.kappa))

    def point(self, x: Exact) -> Exact:
        """x scaled onto the sphere."""
        return times(1 / (self.s * mp.sqrt(dot(x, x))), x)

    def across(self, x: Exact, u: Exact) -> Exact:
        """The part of u tangent at x."""
        return mix(mpf(1), u, -(self.s**2) * dot(x, u), x)

    def expmap0(self, v: Exact) -> Exact:
        """(R cos a, sin(a)/a v)."""
        a = self.s * mp.sqrt(dot(v, v))
        return [mp.cos(a) / self.s, *times(over(mp.sin, a), v)]

    def logmap0(self, x: Exact) -> Exact:
        """atan2(|s|, t)/|s| s."""
        length = mp.sqrt(dot(x[1:], x[1:]))
        return times(mp.atan2(length, x[0]) / (self.s * length) if length else mpf(1), x[1:])

    def expmap(self, x: Exact, u: Exact) -> Exact:
        """cos(a) x + sin(a)/a u."""
        x = self.point(x)
        u = self.across(x, u)
        a = self.s * mp.sqrt(dot(u, u))
        return mix(mp.cos(a), x, over(mp.sin, a), u)

    def logmap(self, x: Exact, y: Exact) -> Exact:
        """atan2(|w|, <x, y>/R)/|w| w."""
        x, y = self.point(x), self.point(y)
        w = self.across(x, y)
        length = mp.sqrt(dot(w, w))
        return times(mp.atan2(length, self.s * dot(x, y)) / (self.s * length) if length else mpf(1), w)

    def dist(self, x: Exact, y: Exact) -> Exact:
        """R atan2(|w|, <x, y>/R)."""
        x, y = self.point(x), self.point(y)
        w = self.across(x, y)
        return [mp.atan2(mp.sqrt(dot(w, w)), self.s * dot(x, y)) / self.s]

    def transp(self, x: Exact, y: Exact, v: Exact) -> Exact:
        """v - 2 <m, v>/|m|^2 m with m = x + y."""
        x, y = self.point(x), self.point(y)
        m = mix(mpf(1), x, mpf(1), y)
        return mix(mpf(1), v, -2 * dot(m, v) / dot(m, m), m)


ORACLES: dict[str, Callable[[float], Any]] = {
    "lorentz": Hyperboloid,
    "poincare": Ball,
    "stereographic": Ball,
    "sphere": Round,
}


def relative_error(got: Numbers, want: Exact) -> float:
    """|got - want|/|want| in exact arithmetic; inf if got is not finite, 0 where both vanish."""
    if not all(value == value and abs(value) != float("inf") for value in got):
        return float("inf")
    off = [mpf(g) - w for g, w in zip(got, want, strict=True)]
    size = mp.sqrt(dot(want, want))
    error = mp.sqrt(dot(off, off))
    return float(error / size) if size > mpf(10) ** -35 else float(error)


# A step that 80 digits resolve, and on which nothing bends.
_STEP = mpf(10) ** -30
_PROBES = 3


def condition(act: Callable[..., Exact], arguments: Sequence[Exact], want: Exact) -> float:
    """The relative error of an exact result that a relative error of 1 in every input entry causes.

    The root mean square over random signs of the entries' errors, 1 at least: what no algorithm can avoid
    whose input was rounded. act(arguments) = want.
    """
    signs, total, size = random.Random(0), mpf(0), dot(want, want)
    if size == 0:
        return 1.0
    for _ in range(_PROBES):
        moved = [[value * (1 + signs.choice((-1, 1)) * _STEP) for value in x] for x in arguments]
        off = mix(mpf(1), act(*moved), mpf(-1), want)
        total += dot(off, off)
    return max(1.0, float(abs(mp.sqrt(total / _PROBES / size) / _STEP)))
