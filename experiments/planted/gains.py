"""The gain c that an arm gives a token, from the fused path's own c: all arms are one law at other norms.

With t a token's length over s, cut to the angle limit, and c(n, q) the layer's gain at abs(x) = n s and
abs(B A x) = q s, the norm-blind arm is c(1, q) and the power law t^p c(1, t^p q).
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from manifold_lora.adapters.fast import scalars
from manifold_lora.adapters.fast.numbers import evaluate
from manifold_lora.adapters.fast.scalars import Chart, Norms
from manifold_lora.manifolds.lorentz import Lorentz

Array = NDArray[np.float64]


class Slope(NamedTuple):
    """c, its derivative by q over q, and its derivative by the exponent p (0 where there is none)."""

    gain: Array
    by_out: Array | float = 0.0
    by_exponent: Array | float = 0.0


class Gain(Protocol):
    """A function of norms (tokens, 1) and an exponent; ``learned`` says whether p is trained."""

    learned: bool

    def value(self, norm: Array, out: Array, p: Array) -> Array:
        """c of tokens with abs(x) = norm and abs(B A x) = out."""

    def slope(self, norm: Array, out: Array, p: Array) -> Slope:
        """The same with its derivatives."""


class Constant:
    """c = a number for each training: LoRA's 1, or the gain that a gain-matched LoRA copies."""

    learned = False

    def __init__(self, c: Array | float = 1.0) -> None:
        self.c = c

    def value(self, norm: Array, out: Array, p: Array) -> Array:
        """The constant."""
        return self.c * np.ones_like(out)

    def slope(self, norm: Array, out: Array, p: Array) -> Slope:
        """The constant, which no derivative moves."""
        return Slope(self.value(norm, out, p))


class Geometry:
    """``direct`` on Lorentz space of radius R, s = 1."""

    learned = False

    def __init__(self, radius: float, max_angle: float) -> None:
        self.chart = Chart(Lorentz.radial_law, radius, None, np.inf, min(max_angle, Lorentz.radial_law.turn))

    def value(self, norm: Array, out: Array, p: Array) -> Array:
        """c(abs(x), abs(B A x))."""
        gain: Array = evaluate(scalars.gain_of, self.chart, Norms(norm, None, out), xp=np)
        return gain

    def slope(self, norm: Array, out: Array, p: Array) -> Slope:
        """The same with its slope."""
        found = evaluate(scalars.slopes_of, self.chart, Norms(norm, None, out), False, xp=np)
        return Slope(found.gain, found.by_out)


class Power(Geometry):
    """t^p in place of the geometry's function of the norm; p = 0 is the norm-blind arm.

    Args:
        radius, max_angle: the geometry's.
        p: the exponent from which ``learned`` starts; None for the geometry's own, a coth(a) - 1.
    """

    def __init__(
        self, radius: float, max_angle: float, p: float | None = None, learned: bool = False
    ) -> None:
        super().__init__(radius, max_angle)
        self.learned = learned
        self.reach = self.chart.limit * radius
        self.reference = min(1.0, self.reach)
        a, law = np.array([self.reference / radius]), self.chart.law
        own = a * law.phi_slope(np, a) / law.phi(np, a) - 1
        self.p = float(own[0]) if p is None else p

    def value(self, norm: Array, out: Array, p: Array) -> Array:
        """t^p c(1, t^p q)."""
        power, cut, one = self._stretch(norm, p)
        return power * super().value(one, out * (cut * power), p)

    def slope(self, norm: Array, out: Array, p: Array) -> Slope:
        """The same with its slopes."""
        power, cut, one = self._stretch(norm, p)
        inner = out * (cut * power)
        gain, by_out, _ = super().slope(one, inner, p)
        by_exponent: Array | float = 0.0
        if self.learned:
            by_exponent = np.log(norm * cut / self.reference) * power * (gain + by_out * np.square(inner))
        return Slope(power * gain, power * np.square(cut * power) * by_out, by_exponent)

    def _stretch(self, norm: Array, p: Array) -> tuple[Array, Array, Array]:
        cut = np.minimum(1.0, self.reach / norm)
        return (norm * cut / self.reference) ** (self.p + p), cut, np.full_like(norm, self.reference)
