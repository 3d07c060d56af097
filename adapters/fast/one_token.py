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
from manifold_lora.adapters.fast.scalars import FAR_IMAGE, SMALLEST_IMAGE, SMALLEST_NORM
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.manifolds.radial_law import RadialLaw

# Where no square of a float32 that counts has left its range.
_TINY, _HUGE = 1e-12, 1e18
# What the laws in this package are made of, for floats; a law with other functions gets numpy's.
_NAMES = ("sinh", "tanh", "sin", "tan", "arcsinh", "arctanh", "arcsin", "arctan")
_PLAIN = cast(
    ModuleType,
    SimpleNamespace(**(vars(np) | {name: getattr(math, name.replace("arc", "a")) for name in _NAMES})),
)


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
    radial: RadialLaw,
    radius: float,
    law: ScaleLaw,
    edge: float,
    limit: float,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
    scaling: float,
) -> Float[Tensor, "*tokens m"] | None:
    """base + scaling gain c B A x; None where a number is not finite, or base of another dtype.

    Args:
        radius: R, before norm scaling.
        law: the norm scaling's numbers, as floats.
        edge: the largest length of coordinates over R.
        limit: the largest angle at which a token enters.
    """
    if base is not None and base.dtype != x.dtype:
        return None
    u = functional.linear(x, A)
    v = functional.linear(u, B)
    n, q = _length(x), _length(v)
    rank = _length(u) if radial.bounded else 0.0
    if not n + q + rank < math.inf:
        return None
    numbers: Any = law  # floats, as asked of the norm scaling
    alpha, left, unit = numbers
    angle = alpha / radius if unit else None
    try:
        c = gain(radial, radius if unit else radius / alpha, angle, edge, limit, n, rank, q)
    except (OverflowError, ValueError):  # Where Python's functions raise and numpy's give infinity.
        return None
    factor = scaling * c if unit else scaling * left * c
    return v * factor if base is None else torch.add(base, v, alpha=factor)


def _length(x: Tensor) -> float:
    if x.dtype == torch.float32:
        length = torch.linalg.vector_norm(x).item()
        if _TINY < length < _HUGE:
            return length
    wide = None if x.dtype == torch.float64 else torch.float64
    return torch.linalg.vector_norm(x, dtype=wide).item()


def gain(
    radial: RadialLaw,
    radius: float,
    angle: float | None,
    edge: float,
    limit: float,
    n: float,
    rank: float,
    q: float,
) -> float:
    """c = (R/q) psi(q/n phi(a)), a = n/R or the angle given: ``scalars.gain_of`` for one token."""
    n = max(n, SMALLEST_NORM)
    a = n / radius if angle is None else angle
    entered = min(a, limit)
    within = min(entered, radial.cap)
    phi = radial.phi(_PLAIN, within)
    k = phi / entered if angle is None else phi / entered * (angle * radius / n)
    z = max(q / n * phi, SMALLEST_IMAGE)
    if radial.bounded:
        shrink = edge / max(rank / n * phi, edge)
        shrink = edge / z if z * shrink > edge else shrink
        z, k = z * shrink, k * shrink
    theta = radial.psi(_PLAIN, z)
    if radial.grows and z > FAR_IMAGE:
        theta += entered - within
    return theta / z * k
