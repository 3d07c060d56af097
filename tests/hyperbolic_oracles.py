"""Textbook formulas of hyperbolic space in other charts, in mpmath: the hyperboloid seen through an isometry.

Source: Ratcliffe, "Foundations of hyperbolic manifolds", sections 4.6 and 6.1; Goldman, "Complex hyperbolic
geometry", chapter 3.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from mpmath import mp, mpc, mpf

from manifold_lora.experiments.bench.numerics.oracle import Exact, Hyperboloid, dot, mix, over, times


@dataclass(frozen=True)
class View(ABC):
    """A chart of the hyperboloid: where a point goes, and where a vector at it goes, both ways."""

    kappa: float

    @property
    def twin(self) -> Hyperboloid:
        """The hyperboloid in space coordinates."""
        return Hyperboloid(self.kappa)

    @abstractmethod
    def up(self, x: Exact) -> Exact:
        """The space coordinates of a point."""

    @abstractmethod
    def down(self, s: Exact) -> Exact:
        """The point over space coordinates."""

    @abstractmethod
    def pushed(self, x: Exact, u: Exact) -> Exact:
        """The differential of ``up`` at x."""

    @abstractmethod
    def pulled(self, s: Exact, w: Exact) -> Exact:
        """The differential of ``down`` at s."""

    def expmap0(self, v: Exact) -> Exact:
        """Through the hyperboloid, as all others."""
        return self.down(self.twin.expmap0(v))

    def logmap0(self, x: Exact) -> Exact:
        """As above."""
        return self.twin.logmap0(self.up(x))

    def expmap(self, x: Exact, u: Exact) -> Exact:
        """As above."""
        return self.down(self.twin.expmap(self.up(x), self.pushed(x, u)))

    def logmap(self, x: Exact, y: Exact) -> Exact:
        """As above."""
        return self.pulled(self.up(x), self.twin.logmap(self.up(x), self.up(y)))

    def dist(self, x: Exact, y: Exact) -> Exact:
        """As above."""
        return self.twin.dist(self.up(x), self.up(y))

    def transp(self, x: Exact, y: Exact, v: Exact) -> Exact:
        """As above."""
        return self.pulled(self.up(y), self.twin.transp(self.up(x), self.up(y), self.pushed(x, v)))


class Straight(View):
    """Klein's model: x = s/E with E = sqrt(1 + k |s|^2)."""

    def up(self, x: Exact) -> Exact:
        """x/sqrt(1 - k |x|^2)."""
        return times(1 / mp.sqrt(1 - self.twin.k * dot(x, x)), x)

    def down(self, s: Exact) -> Exact:
        """s/E."""
        return times(1 / mp.sqrt(1 + self.twin.k * dot(s, s)), s)

    def pushed(self, x: Exact, u: Exact) -> Exact:
        """g u + k g^3 <x, u> x with g = 1/sqrt(1 - k |x|^2)."""
        g = 1 / mp.sqrt(1 - self.twin.k * dot(x, x))
        return mix(g, u, self.twin.k * g**3 * dot(x, u), x)

    def pulled(self, s: Exact, w: Exact) -> Exact:
        """w/E - k <s, w>/E^3 s."""
        E = mp.sqrt(1 + self.twin.k * dot(s, s))
        return mix(1 / E, w, -self.twin.k * dot(s, w) / E**3, s)


class Upper(View):
    """The half-space: with R the radius, y = R s'/(t - s_n) and h = R^2/(t - s_n)."""

    def up(self, x: Exact) -> Exact:
        """(R y/h, (h^2 + |y|^2 - R^2)/2h)."""
        *y, h = x
        square = 1 / self.twin.k
        return [*times(mp.sqrt(square) / h, y), (h**2 + dot(y, y) - square) / (2 * h)]

    def down(self, s: Exact) -> Exact:
        """(R s', R^2)/(t - s_n)."""
        radius = 1 / mp.sqrt(self.twin.k)
        return times(radius / (self.twin.time(s) - s[-1]), [*s[:-1], radius])

    def pushed(self, x: Exact, u: Exact) -> Exact:
        """The quotient rule."""
        (*y, h), (*side, rise) = x, u
        radius, last = 1 / mp.sqrt(self.twin.k), self.up(x)[-1]
        return [
            *mix(radius / h, side, -radius * rise / h**2, y),
            rise + (dot(y, side) - last * rise) / h,
        ]

    def pulled(self, s: Exact, w: Exact) -> Exact:
        """The quotient rule."""
        radius, below = 1 / mp.sqrt(self.twin.k), self.twin.time(s) - s[-1]
        turned = dot(s, w) / self.twin.time(s) - w[-1]
        return mix(radius / below, [*w[:-1], mpf(0)], -radius * turned / below**2, [*s[:-1], radius])


@dataclass(frozen=True)
class ComplexBall:
    """Complex hyperbolic space: unit vectors Z of C^(1, m) up to a phase, coordinates (re, im, re, im, ...).

    Along a geodesic Z(t) = cosh(t) Z + sinh(t) U, with U orthogonal to Z and of length 1; the part of a
    vector along U and iU goes on to the velocity and i times it, the rest stays as it is.
    """

    kappa: float

    @property
    def s(self) -> mpf:
        """1/R."""
        return mp.sqrt(-mpf(self.kappa))

    def lifted(self, z: Exact) -> list[mpc]:
        """(1, z/R) of square -1."""
        w = [mpc(1), *(self.s * mpc(*pair) for pair in zip(z[::2], z[1::2], strict=True))]
        return times(1 / mp.sqrt(-mp.re(_form(w, w))), w)

    def pushed(self, z: Exact, u: Exact) -> list[mpc]:
        """The vector at ``lifted(z)``, orthogonal to it, that u is."""
        Z = self.lifted(z)
        w = [mpc(0), *(self.s * mpc(*pair) * Z[0] for pair in zip(u[::2], u[1::2], strict=True))]
        return mix(mpf(1), w, _form(w, Z), Z)

    def placed(self, Z: list[mpc]) -> Exact:
        """The point of a vector of C^(1, m)."""
        return [part for z in Z[1:] for w in [z / (Z[0] * self.s)] for part in (mp.re(w), mp.im(w))]

    def pulled(self, Z: list[mpc], V: list[mpc]) -> Exact:
        """The differential of ``placed``."""
        moved = [(v - z * V[0] / Z[0]) / (Z[0] * self.s) for z, v in zip(Z[1:], V[1:], strict=True)]
        return [part for w in moved for part in (mp.re(w), mp.im(w))]

    def expmap0(self, v: Exact) -> Exact:
        """tanh(s|v|/2)/(s|v|) v."""
        return times(over(mp.tanh, self.s * mp.sqrt(dot(v, v)) / 2) / 2, v)

    def logmap0(self, x: Exact) -> Exact:
        """2 atanh(s|x|)/(s|x|) x."""
        return times(2 * over(mp.atanh, self.s * mp.sqrt(dot(x, x))), x)

    def expmap(self, x: Exact, u: Exact) -> Exact:
        """cosh(t) Z + sinh(t)/t U."""
        U = self.pushed(x, u)
        t = mp.sqrt(mp.re(_form(U, U)))
        return self.placed(mix(mp.cosh(t), self.lifted(x), over(mp.sinh, t), U))

    def _towards(self, x: Exact, y: Exact) -> tuple[list[mpc], list[mpc], list[mpc], mpf]:
        """Z over x, W over y with a real product, the vector U at Z on the way to W, of length t."""
        Z, W = self.lifted(x), self.lifted(y)
        product = _form(W, Z)
        W = times(-abs(product) / product, W)
        t = mp.acosh(max(mpf(1), abs(product)))
        return Z, W, times(1 / over(mp.sinh, t), mix(mpf(1), W, -mp.cosh(t), Z)), t

    def logmap(self, x: Exact, y: Exact) -> Exact:
        """U."""
        Z, _, U, _ = self._towards(x, y)
        return self.pulled(Z, U)

    def dist(self, x: Exact, y: Exact) -> Exact:
        """2 t R."""
        return [2 * self._towards(x, y)[3] / self.s]

    def transp(self, x: Exact, y: Exact, v: Exact) -> Exact:
        """V + <V, U>/t (sinh(t) Z + (cosh(t) - 1) U/t)."""
        Z, W, U, t = self._towards(x, y)
        V = self.pushed(x, v)
        along = _form(V, U)
        turned = mix(over(mp.sinh, t), Z, (mp.cosh(t) - 1) / t**2 if t else mpf(0), U)
        return self.pulled(W, mix(mpf(1), V, along, turned))


def _form(u: list[mpc], v: list[mpc]) -> mpc:
    """-u_0 conj(v_0) + sum u_i conj(v_i)."""
    return mp.fsum(a * mp.conj(b) for a, b in zip(u[1:], v[1:], strict=True)) - u[0] * mp.conj(v[0])
