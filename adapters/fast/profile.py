"""The radial geometries as three functions: phi, its inverse psi, and their slopes.

With R the radius, a point at distance R a from the origin has coordinates of length R phi(a); psi goes back.
These are for numbers per token: everything of the width n has been reduced before. They take the module to
compute with, numpy or torch: for a few hundred numbers on a CPU torch costs five times numpy's overhead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.lorentz import Lorentz
from manifold_lora.manifolds.poincare import Poincare
from manifold_lora.manifolds.sphere import Sphere

# Numbers per token: a tensor or a numpy array, as the module given.
Numbers = Any
Function = Callable[[ModuleType, Numbers], Numbers]


@dataclass(frozen=True)
class RadialProfile:
    """One geometry's radial functions.

    Args:
        phi, phi_slope: phi and phi'.
        psi, psi_slope: the inverse of phi on the chart, and psi'.
        stretch: the R of these functions over 1/sqrt(abs(kappa)).
        cap: the largest angle that phi is asked for.
        grows: beyond the cap phi is its exponential, psi(rho phi(a)) = psi(rho phi(cap)) + a - cap.
        bounded: does the chart end at coordinates of length R?
    """

    phi: Function
    phi_slope: Function
    psi: Function
    psi_slope: Function
    stretch: float = 1.0
    cap: float = math.inf
    grows: bool = False
    bounded: bool = True


HYPERBOLIC = RadialProfile(
    phi=lambda xp, a: xp.sinh(a),
    phi_slope=lambda xp, a: xp.cosh(a),
    psi=lambda xp, z: xp.arcsinh(z),
    psi_slope=lambda xp, z: 1 / xp.sqrt(1 + z * z),
    cap=80.0,
    grows=True,
    bounded=False,
)
BALL = RadialProfile(
    phi=lambda xp, a: xp.tanh(a),
    phi_slope=lambda xp, a: 1 / xp.square(xp.cosh(a)),
    psi=lambda xp, z: xp.arctanh(z),
    psi_slope=lambda xp, z: 1 / ((1 - z) * (1 + z)),
    stretch=2.0,
    cap=300.0,
)
SPHERICAL = RadialProfile(
    phi=lambda xp, a: xp.sin(a),
    phi_slope=lambda xp, a: xp.cos(a),
    psi=lambda xp, z: xp.arcsin(z),
    psi_slope=lambda xp, z: 1 / xp.sqrt((1 - z) * (1 + z)),
)

_KNOWN: dict[type[Manifold], RadialProfile] = {Lorentz: HYPERBOLIC, Poincare: BALL, Sphere: SPHERICAL}


def profile_of(manifold: Manifold) -> RadialProfile | None:
    """The profile of an in-tree geometry with a curvature of one sign; None for any other."""
    # By exact type: a subclass may have changed what its parent promised.
    return _KNOWN.get(type(manifold))
