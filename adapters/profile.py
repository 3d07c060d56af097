"""The radial geometries as three functions: phi, its inverse psi, and their slopes.

With R the radius, a point at distance R a from the origin has coordinates of length R phi(a); psi goes back.
These are for numbers per token: everything of the width n has been reduced before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.lorentz import Lorentz
from manifold_lora.manifolds.poincare import Poincare
from manifold_lora.manifolds.sphere import Sphere

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RadialProfile:
    """One geometry's radial functions.

    Args:
        phi, phi_slope: phi and phi'.
        psi, psi_slope: the inverse of phi on the chart, and psi'.
        cubic: k in phi(t)/phi'(t) = t + k t^3 + O(t^5).
        stretch: the R of these functions over 1/sqrt(abs(kappa)).
        cap: beyond this angle phi is its exponential: psi(rho phi(a)) = psi(rho phi(cap)) + a - cap.
        bounded: does the chart end at coordinates of length R?
    """

    phi: Function
    phi_slope: Function
    psi: Function
    psi_slope: Function
    cubic: float
    stretch: float = 1.0
    cap: float = math.inf
    bounded: bool = True


HYPERBOLIC = RadialProfile(
    phi=torch.sinh,
    phi_slope=torch.cosh,
    psi=torch.asinh,
    psi_slope=lambda z: (1 + z * z).rsqrt(),
    cubic=-1 / 3,
    cap=80.0,
    bounded=False,
)
BALL = RadialProfile(
    phi=torch.tanh,
    phi_slope=lambda a: torch.cosh(a).pow(-2),
    psi=torch.atanh,
    psi_slope=lambda z: 1 / ((1 - z) * (1 + z)),
    cubic=2 / 3,
    stretch=2.0,
)
SPHERICAL = RadialProfile(
    phi=torch.sin,
    phi_slope=torch.cos,
    psi=torch.asin,
    psi_slope=lambda z: ((1 - z) * (1 + z)).rsqrt(),
    cubic=1 / 3,
)


_KNOWN: dict[type[Manifold], RadialProfile] = {Lorentz: HYPERBOLIC, Poincare: BALL, Sphere: SPHERICAL}


def profile_of(manifold: Manifold) -> RadialProfile | None:
    """The profile of an in-tree geometry with a curvature of one sign; None for any other."""
    # By exact type: a subclass may have changed what its parent promised.
    return _KNOWN.get(type(manifold))
