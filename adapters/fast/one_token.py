"""The update of a single token without gradient, as in decoding: its gain is one number, computed in Python.

For one token the arithmetic is nothing and the calls are everything: |x| and |B A x| are measured, the gain
is taken from Python's floats, and it scales B A x on its way into the base output.
"""

import math
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.adapters.fast.numbers import backend
from manifold_lora.adapters.fast.profile import RadialProfile
from manifold_lora.adapters.fast.scalars import SMALLEST_NORM, SMALLEST_RATIO
from manifold_lora.adapters.norm_scaling import ScaleLaw

# Where no square of a float32 that counts has left its range.
_TINY, _HUGE = 1e-12, 1e18
# The profile's functions, of floats.
_NAMES = {
    "sinh": math.sinh,
    "tanh": math.tanh,
    "sin": math.sin,
    "arcsinh": math.asinh,
    "arctanh": math.atanh,
    "arcsin": math.asin,
}
_PLAIN = cast(ModuleType, SimpleNamespace(**_NAMES))


def serves(x: Tensor, A: Tensor) -> bool:
    """Is x one token of a plain CPU tensor in the dtype of A, outside of autograd and autocast?"""
    return (
        x.numel() == x.shape[-1]
        and not torch.is_grad_enabled()
        and x.dtype == A.dtype
        and backend(x) is np
        and not torch.is_autocast_enabled("cpu")
    )


def update(
    profile: RadialProfile,
    radius: float,
    law: ScaleLaw,
    edge: float,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
    scaling: float,
) -> Float[Tensor, "*tokens m"] | None:
    """base + scaling gain c B A x; None where a length is not finite, or base of another dtype.

    Args:
        radius: R of the profile, before norm scaling.
        law: the norm scaling's numbers, as floats.
        edge: the largest length of coordinates over R.
    """
    if base is not None and base.dtype != x.dtype:
        return None
    u = functional.linear(x, A)
    v = functional.linear(u, B)
    n, q = _length(x), _length(v)
    rank = _length(u) if profile.bounded else 0.0
    if not n + q + rank < math.inf:
        return None
    numbers: Any = law  # floats, as asked of the norm scaling
    alpha, left, unit = numbers
    if unit:
        factor = scaling * gain(profile, radius, alpha / radius, edge, n, rank, q)
    else:
        factor = scaling * left * gain(profile, radius / alpha, None, edge, n, rank, q)
    return v * factor if base is None else torch.add(base, v, alpha=factor)


def _length(x: Tensor) -> float:
    if x.dtype == torch.float32:
        length = torch.linalg.vector_norm(x).item()
        if _TINY < length < _HUGE:
            return length
    wide = None if x.dtype == torch.float64 else torch.float64
    return torch.linalg.vector_norm(x, dtype=wide).item()


def gain(
    profile: RadialProfile,
    radius: float,
    angle: float | None,
    edge: float,
    n: float,
    rank: float,
    q: float,
) -> float:
    """c = (R/q) psi(q/n phi(a)), a = n/R or the angle given: ``token_scalars.gain_of`` for one token."""
    n = max(n, SMALLEST_NORM)
    rho = max(q / n, SMALLEST_RATIO)
    a = n / radius if angle is None else angle
    within = min(a, profile.cap)
    phi = profile.phi(_PLAIN, within)
    z = rho * phi
    if profile.bounded:
        middle = abs(rank / n * phi)
        z *= min(1.0, edge / max(middle, edge))
        z = min(max(z, -edge), edge)
    theta = profile.psi(_PLAIN, z)
    return (theta + (a - within) if profile.grows else theta) * radius / (rho * n)
