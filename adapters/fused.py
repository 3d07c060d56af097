"""From an adapter's parts to the fused function: its chart, its dtypes and its two-dimensional view."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters import fused_function, one_token
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
    chart, gain = _chart(profile, manifold, scaling_law, x)
    tokens = x.shape[:-1]
    flat = x.to(product).reshape(-1, x.shape[-1])
    flat_base = None if base is None else base.to(product).reshape(-1, base.shape[-1])
    arguments = (flat_base, flat, A.to(product), B.to(product), chart, gain, scaling)
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
) -> tuple[Chart, Tensor | float | None]:
    """The chart with the scaling's constants taken in, and the factor that is left on the way out.

    delta = beta R theta(alpha |x|/R) has the form of radius R/alpha and the factor alpha beta.
    """
    plain = backend(x) is np and not (torch.is_grad_enabled() and _learns(manifold.curvature, scaling_law))
    edge = _edge(profile, x)
    size: Tensor | float
    if plain:
        size = _radius(profile, manifold)
    else:
        size = profile.stretch / manifold.curvature.at(torch.float64).abs().sqrt()
    law = scaling_law.law(None if plain else torch.float64)
    if law.unit:
        return Chart(profile, size, law.alpha, edge), None
    gain = None if isinstance(law.gain, float) and law.gain == 1.0 else law.gain
    return Chart(profile, size / law.alpha, None, edge), gain
