"""What a rotationally symmetric geometry is around its origin: phi, its inverse psi, and nothing else.

With R the radius of curvature, a point at the distance R a from the origin has coordinates of length
R phi(a), and coordinates of length R z lie at the distance R psi(z). Everything that an adapter or a chart
computes follows from these two functions, for tensors and for numpy's arrays alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions

# Numbers per token: a tensor or a numpy array, as the module given (numpy or torch) makes them.
Numbers = Any
Function = Callable[[ModuleType, Numbers], Numbers]

# Where Cauchy's integral for the Taylor coefficients is taken, in t^2, and how many coefficients are kept.
_CIRCLE, _POINTS, _TERMS = 0.5, 64, 24
_STEP = 1e-30


class Even:
    """f(t)/t as a smooth function of t^2, from f alone: its Taylor series near 0, f itself beyond.

    Args:
        f: odd and analytic for abs(t)^2 <= 1/2.

    Raises:
        ManifoldLoraError: a function that is no such thing.
    """

    def __init__(self, f: Function, name: str = "f") -> None:
        self.f = f
        circle = _CIRCLE * np.exp(2j * np.pi * np.arange(_POINTS) / _POINTS)
        try:
            values = np.asarray(f(np, np.sqrt(circle)) / np.sqrt(circle), dtype=complex)
            terms = (np.fft.fft(values)[:_TERMS] / _POINTS).real / _CIRCLE ** np.arange(_TERMS)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._refusal(name, str(error)) from error
        t = np.linspace(1e-3, functions.SERIES**0.5, 9)
        if not np.allclose(np.polyval(terms[::-1], t * t), f(np, t) / t, rtol=1e-13, atol=0):
            raise self._refusal(name, "its Taylor series at 0 does not give its values")
        self.terms = functions.truncate([float(term) for term in terms])
        self.terms_at_0 = tuple(map(float, terms[:5]))

    @staticmethod
    def _refusal(name: str, hint: str) -> ManifoldLoraError:
        allowed = "an odd function (xp, t) of numpy and torch that is analytic for abs(t)^2 <= 1/2"
        return ManifoldLoraError(f"{name} of a radial law", "another kind of function", allowed, hint)

    def of_square(self, q: Tensor, below: "Even | None" = None) -> Tensor:
        """f(t)/t at q = t^2 >= 0; where q < 0, ``below`` is the same function of t = sqrt(-q)."""
        other = self if below is None else below
        return functions.even(q, self.terms, lambda t: self.f(torch, t) / t, lambda t: other.f(torch, t) / t)

    def of(self, t: Tensor) -> Tensor:
        """f(t)/t for t >= 0 up to the largest float, where t^2 would not fit."""
        return functions.from_norm(t, self.of_square, lambda far: self.f(torch, far) / far)


def bend(phi: Even, q: Numbers) -> Numbers:
    """a phi'(a)/phi(a) - 1 at small q = a^2, where the difference would cancel; to 2e-10 at a = 0.03."""
    f0, f1, f2, f3, _ = phi.terms_at_0
    return q * (2 * f1 + q * (4 * f2 + q * 6 * f3)) / (f0 + q * (f1 + q * f2))


def fall(psi: Even, q: Numbers) -> Numbers:
    """(psi'(b) - psi(b)/b)/b^2 at small q = b^2, where the difference would cancel; to 1e-13 at b = 0.02."""
    _, f1, f2, f3, f4 = psi.terms_at_0
    return 2 * f1 + q * (4 * f2 + q * (6 * f3 + q * 8 * f4))


@dataclass(frozen=True)
class RadialLaw:
    """One geometry's radial functions of (xp, number), xp numpy or torch.

    Args:
        phi: from an angle a >= 0 to the length of coordinates over R; odd and analytic.
        psi: its inverse on the chart.
        phi_slope, psi_slope: their derivatives, where a closed form is quicker than a complex step.
        cap: the largest angle that phi is asked for.
        grows: beyond the cap phi is its exponential, psi(rho phi(a)) = psi(rho phi(cap)) + a - cap.
        bounded: does the chart end at coordinates of length R?
        turn: the angle at which geodesics meet again, beyond which no token goes; pi on a sphere.
        linear: is the chart the identity, so that coordinates are the free vector itself?

    Raises:
        ManifoldLoraError: a phi or psi that is not odd and analytic, or a slope that is not theirs.
    """

    phi: Function
    psi: Function
    # Never None once the law stands.
    phi_slope: Any = None
    psi_slope: Any = None
    cap: float = math.inf
    grows: bool = False
    bounded: bool = False
    turn: float = math.inf
    linear: bool = False
    entry: Even = field(init=False, repr=False, compare=False)
    exit: Even = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, even in (("phi", "entry"), ("psi", "exit")):
            function, slope = getattr(self, name), getattr(self, f"{name}_slope")
            object.__setattr__(self, even, Even(function, name))
            at = np.array([0.1, 0.4])
            exact = _slope(function)(np, at)
            if slope is None:
                object.__setattr__(self, f"{name}_slope", _slope(function))
            elif not np.allclose(slope(np, at), exact, rtol=1e-9):
                raise ManifoldLoraError(f"{name}_slope of a radial law", slope(np, at).tolist(), f"{exact}")


def _slope(function: Function) -> Function:
    """The derivative of an analytic function by a complex step: right to the last digit."""
    return lambda xp, t: xp.imag(function(xp, t + _STEP * 1j)) / _STEP
