"""The update of a few tokens without gradient, as in decoding: |B A x| is measured, not taken from B^T B.

For so few the arithmetic is nothing and the calls are everything: |x| and |B A x| are measured, the gains are
computed from them, and they scale B A x on its way into the base output. Where there is one token its gain is
one number.
"""

import math
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.adapters.fast.numbers import backend, evaluate, is_transformed, row_norm
from manifold_lora.adapters.fast.scalars import (
    FAR_IMAGE,
    SMALLEST_IMAGE,
    SMALLEST_NORM,
    Chart,
    Norms,
    at_tokens,
    gain_of,
)
from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.manifolds.radial_law import RadialLaw

# How many tokens are few: beyond, measuring B u costs more than B^T B.
MOST = 64
# How many gains cost less one by one than numpy's calls do.
_SINGLY = 12

# Where no square of a float32 that counts has left its range.
_TINY, _HUGE = 1e-12, 1e18
# What the laws in this package are made of, for floats; a law with other functions gets numpy's.
_NAMES = ("sinh", "tanh", "sin", "tan", "arcsinh", "arctanh", "arcsin", "arctan")
_PLAIN = cast(
    ModuleType,
    SimpleNamespace(**(vars(np) | {name: getattr(math, name.replace("arc", "a")) for name in _NAMES})),
)


def serves(x: Tensor, A: Tensor) -> bool:
    """Is x a few tokens in a plain CPU tensor of A's dtype, outside of autograd, autocast and torch.func?"""
    return (
        0 < x.numel() <= MOST * x.shape[-1]
        and not torch.is_grad_enabled()
        and x.dtype == A.dtype
        and backend(x) is np
        and not torch.is_autocast_enabled("cpu")
        and not is_transformed()
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
    token: TokenScale | None = None,
) -> Float[Tensor, "*tokens m"] | None:
    """base + scaling gain c B A x; None where a number is not finite, or base of another dtype.

    Args:
        radius: R, before norm scaling.
        law: the norm scaling's numbers, as floats.
        edge: the largest length of coordinates over R.
        limit: the largest angle at which a token enters.
        token: what R is divided by for each token.
    """
    if base is not None and base.dtype != x.dtype:
        return None
    u = functional.linear(x, A)
    v = functional.linear(u, B)
    numbers: Any = law  # floats, as asked of the norm scaling
    alpha, left, unit = numbers
    chart = Chart(radial, radius if unit else radius / alpha, alpha if unit else None, edge, limit)
    scaling = scaling if unit else scaling * left
    gains = _singly if x.numel() <= _SINGLY * x.shape[-1] else _together
    factors = gains(chart, x, u, v, token)
    return None if factors is None else _added(base, v, scaling, factors)


def _singly(chart: Chart, x: Tensor, u: Tensor, v: Tensor, token: TokenScale | None) -> Any:
    """The gains by Python's floats."""
    n, q = _lengths(x), _lengths(v)
    rank = _lengths(u) if chart.law.bounded else n
    if not sum(n) + sum(rank) + sum(q) < math.inf:
        return None
    charts = [chart] * len(n)
    if token is not None:
        radii: Any = evaluate(at_tokens, chart, np.array(n), token, xp=np).radius
        charts = [chart._replace(radius=radius) for radius in radii.tolist()]
    try:
        return [gain(*of_token) for of_token in zip(charts, n, rank, q, strict=True)]
    except (OverflowError, ValueError):  # Where Python's functions raise and numpy's give infinity.
        return None


def _together(chart: Chart, x: Tensor, u: Tensor, v: Tensor, token: TokenScale | None) -> Any:
    """The gains by numpy."""
    n, q = (row_norm(one.flatten(0, -2)).numpy() for one in (x, v))
    rank = row_norm(u.flatten(0, -2)).numpy() if chart.law.bounded else n
    if token is not None:
        chart = evaluate(at_tokens, chart, n, token, xp=np)
    gains = evaluate(gain_of, chart, Norms(n, rank, q), xp=np)
    return gains if gains.sum() < math.inf else None


def _added(base: Tensor | None, v: Tensor, scaling: float, gains: Any) -> Tensor:
    if len(gains) == 1:
        (gain,) = gains
        return v * (scaling * gain) if base is None else torch.add(base, v, alpha=scaling * gain)
    wide = np.float64 if v.dtype == torch.float64 else np.float32
    each = torch.from_numpy((scaling * np.asarray(gains)).astype(wide)).view(*v.shape[:-1], 1)
    return (v * each if base is None else torch.addcmul(base, v, each)).to(v.dtype)


def _lengths(x: Tensor) -> list[float]:
    """|x| of each row."""
    norms = torch.linalg.vector_norm
    if x.dtype != torch.float64:
        lengths: list[float] = norms(x, dim=-1, dtype=torch.float32).flatten().tolist()
        if min(lengths) > _TINY and max(lengths) < _HUGE:
            return lengths
    return norms(x, dim=-1, dtype=torch.float64).flatten().tolist()


def gain(chart: Chart, n: float, rank: float, q: float) -> float:
    """c = (R/q) psi(q/n phi(a)), a = n/R or of the chart's one length: ``scalars.gain_of`` for one token."""
    radial, radius, length, edge, limit = cast(tuple[RadialLaw, float, float | None, float, float], chart)
    n = max(n, SMALLEST_NORM)
    entered = min((n if length is None else length) / radius, limit)
    within = min(entered, radial.cap)
    phi = radial.phi(_PLAIN, within)
    k = phi / entered if length is None else phi / entered * (length / n)
    z = max(q / n * phi, SMALLEST_IMAGE)
    if radial.bounded:
        shrink = edge / max(rank / n * phi, edge)
        shrink = edge / z if z * shrink > edge else shrink
        z, k = z * shrink, k * shrink
    theta = radial.psi(_PLAIN, z)
    if radial.grows and z > FAR_IMAGE:
        theta += entered - within
    return theta / z * k
