"""From an adapter's parts to the fused function: its chart, its dtypes and its two-dimensional view."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters import fused_function, one_token
from manifold_lora.adapters.fused_function import Knob
from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.numbers import backend
from manifold_lora.adapters.precision import autocast_off, geometry_dtype
from manifold_lora.adapters.profile import RadialProfile
from manifold_lora.adapters.token_scalars import Chart
from manifold_lora.manifolds.base import Manifold

# How many eps the primitives keep coordinates inside the boundary of a bounded chart.
_MARGIN = 4.0


def update(
    profile: RadialProfile,
    manifold: Manifold,
    scaling_law: NormScaling,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
    scaling: float,
) -> Float[Tensor, "*tokens m"]:
    """base + scaling * delta of ``direct`` on a geometry with a profile."""
    if one_token.serves(x, A, base):
        radius, law = _radius(profile, manifold), scaling_law.law(None)
        told = one_token.update(profile, radius, law, _edge(profile, x), x, A, B, base, scaling)
        if told is not None:
            return told
    kept = x.dtype if base is None else base.dtype
    product = _product_dtype(x, A)
    chart, gain, knobs = _chart(profile, manifold, scaling_law, x)
    tokens = x.shape[:-1]
    flat = x.to(product).reshape(-1, x.shape[-1])
    flat_base = None if base is None else base.to(product).reshape(-1, base.shape[-1])
    arguments = (flat_base, flat, A.to(product), B.to(product), chart, gain, scaling, knobs)
    if torch.is_autocast_enabled(x.device.type):
        with autocast_off(x):
            result = fused_function.update(*arguments)
    else:
        result = fused_function.update(*arguments)
    return result.view(*tokens, B.shape[0]).to(kept)


def _product_dtype(x: Tensor, A: Tensor) -> torch.dtype:
    """The dtype of the products with A and B: autocast's, as for LoRA, else the wider of the two."""
    wide = torch.promote_types(x.dtype, A.dtype)
    if wide != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return wide


def _learns(*parts: nn.Module) -> bool:
    return any(parameter.requires_grad for part in parts for parameter in part.parameters(recurse=False))


def _radius(profile: RadialProfile, manifold: Manifold) -> float:
    return profile.stretch / math.sqrt(abs(manifold.curvature.number()))


def _edge(profile: RadialProfile, x: Tensor) -> float:
    return 1.0 - _MARGIN * torch.finfo(geometry_dtype(x)).eps if profile.bounded else math.inf


def _chart(
    profile: RadialProfile, manifold: Manifold, scaling_law: NormScaling, x: Tensor
) -> tuple[Chart, Tensor | float | None, list[Knob]]:
    """The chart with the scaling's constants taken in, the factor that is left on the way out, and the knobs.

    delta = beta R theta(alpha |x|/R) has the form of radius R/alpha and the factor alpha beta. Where numbers
    serve, the parameters behind them are knobs: a dozen operations on one element, and their backward, less.
    """
    knobs = _knobs(manifold, scaling_law) if backend(x) is np else None
    size: Tensor | float
    if knobs is None:
        size = profile.stretch / manifold.curvature.at(torch.float64).abs().sqrt()
    else:
        size = _radius(profile, manifold)
    law = scaling_law.law(torch.float64 if knobs is None else None)
    edge, knobs = _edge(profile, x), knobs or []
    if law.unit:
        return Chart(profile, size, law.alpha, edge), None, knobs
    gain = None if isinstance(law.gain, float) and law.gain == 1.0 else law.gain
    return Chart(profile, size / law.alpha, None, edge), gain, knobs


def _knobs(manifold: Manifold, scaling_law: NormScaling) -> list[Knob] | None:
    """What moves log R, log alpha and log gain, and how fast; None where that is not known."""
    if not torch.is_grad_enabled():
        return []
    known: list[Knob] = []
    if _learns(manifold.curvature):
        # R = |kappa0 exp(raw)|^(-1/2).
        known.append((manifold.curvature.raw, (-0.5, 0.0, 0.0)))
    if _learns(scaling_law):
        powers = scaling_law.log_powers()
        if powers is None:
            return None
        alpha, gain = powers
        rates = (0.0, float(alpha), 0.0) if scaling_law.law(None).unit else (float(-alpha), 0.0, float(gain))
        known.append((scaling_law.get_parameter("log_scale"), rates))
    return known
