"""From an adapter's parts to the fused function: its chart, its dtypes and its two-dimensional view."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.fast import few_tokens, whole
from manifold_lora.adapters.fast import function as fused_function
from manifold_lora.adapters.fast.gradients import LearnedScalar
from manifold_lora.adapters.fast.numbers import backend, is_plain, is_transformed
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.precision import autocast_off, geometry_dtype
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw

# How many eps the primitives keep coordinates inside the boundary of a bounded chart.
_MARGIN = 4.0


def update(
    manifold: Radial,
    scaling_law: NormScaling,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
    scaling: float,
    limit: float,
    in_place: bool = False,
    token: TokenScale | None = None,
) -> Float[Tensor, "*tokens m"]:
    """base + scaling * delta of ``direct`` on a geometry with a radial law, over base if that is allowed.

    A token scale wants ``has_numbers``.
    """
    kept = x.dtype if base is None else base.dtype
    autocast = torch.is_autocast_enabled(x.device.type)
    product = product_dtype(x, A, autocast)
    chart, gain, learned = chart_of(manifold, scaling_law, limit, x, token is not None)
    wide = None if base is None else base.to(product)
    arguments = (wide, x.to(product), A.to(product), B.to(product), chart, gain, scaling, learned)
    in_place = in_place and wide is base and may_be_overwritten(base)
    if autocast:
        with autocast_off(x):
            return fused_function.update(*arguments, in_place, token).to(kept)
    return fused_function.update(*arguments, in_place, token).to(kept)


def of_few_tokens(
    manifold: Radial,
    scaling_law: NormScaling,
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    base: Float[Tensor, "*tokens m"] | None,
    scaling: float,
    limit: float,
    token: TokenScale | None,
) -> Float[Tensor, "*tokens m"] | None:
    """``update`` for tokens that ``few_tokens`` serves; None where that one has to serve."""
    radial: Any = manifold.radial_law
    radius, law = radius_of(manifold), scaling_law.law(None)
    edge = _edge(radial, x, token is not None)
    return few_tokens.update(radial, radius, law, edge, limit, x, A, B, base, scaling, token)


def of_layer(
    manifold: Radial,
    scaling_law: NormScaling,
    limit: float,
    token: TokenScale | None,
    x: Float[Tensor, "*tokens n"],
    weight: Float[Tensor, "m n"],
    bias: Float[Tensor, " m"] | None,
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
    scaling: float,
) -> Float[Tensor, "*tokens m"] | None:
    """``update`` on W x + b in training, where ``serves_layer``; None for unknown slopes."""
    chart, gain, learned = chart_of(manifold, scaling_law, limit, x, token is not None)
    if isinstance(chart.radius, Tensor):
        return None
    return whole.update(x, weight, bias, A, B, chart, gain, scaling, learned, token)  # type: ignore[arg-type]


def serves_layer(
    x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, scaling: float | int | Tensor
) -> bool:
    """Can W x + b be taken inside the update, W and b frozen?

    Not without a graph, on a device, under autocast, a transform or a compiler, and not for tensors of unlike
    dtypes or of a class of their own (quantised, sharded).
    """
    others = (weight, A, B) if bias is None else (weight, A, B, bias)
    return (
        torch.is_grad_enabled()
        and not isinstance(scaling, Tensor)
        and backend(x) is np
        and all(is_plain(one) and one.dtype == x.dtype for one in others)
        and not weight.requires_grad
        and (bias is None or not bias.requires_grad)
        and (x.requires_grad or A.requires_grad or B.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and not is_transformed()
    )


def has_numbers(scaling_law: NormScaling, x: Tensor) -> bool:
    """Are chart and gain numbers, whose slopes are known, for tokens like these?"""
    return backend(x) is np and (scaling_law.powers is not None or not learned_of(scaling_law))


def may_be_overwritten(base: Tensor | None) -> bool:
    """Does autograd take an addition in place without copies, which views and traced tensors need?"""
    return (
        base is not None
        and not torch.compiler.is_compiling()
        and base.is_contiguous()
        and not base._is_view()
    )


def product_dtype(x: Tensor, A: Tensor, autocast: bool) -> torch.dtype:
    """The dtype of the products with A and B: autocast's, as for LoRA, else the wider of the two."""
    wide = x.dtype if x.dtype == A.dtype else torch.promote_types(x.dtype, A.dtype)
    if autocast and wide != torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return wide


def learned_of(module: nn.Module) -> list[Tensor]:
    """The trainable parameters of the module itself."""
    # Not parameters(), which walks names and modules: it would be a third of this path's own time.
    return [one for one in module._parameters.values() if one is not None and one.requires_grad]


def radius_of(manifold: Radial) -> float:
    """R as a number."""
    return 1.0 if manifold.kappa_sign == 0 else 1.0 / math.sqrt(abs(manifold.curvature.number()))


def _edge(radial: RadialLaw, x: Tensor, by_token: bool) -> float:
    # On other devices tokens that differ go through rank space in float64, whose chart ends further out.
    dtype = torch.float64 if by_token else geometry_dtype(x)
    return 1.0 - _MARGIN * torch.finfo(dtype).eps if radial.bounded else math.inf


def chart_of(
    manifold: Radial, scaling_law: NormScaling, limit: float, x: Tensor, by_token: bool = False
) -> tuple[Chart, Tensor | float | None, list[LearnedScalar]]:
    """The chart with the scaling's constants taken in, the factor left on the way out, the learned scalars.

    delta = beta R theta(alpha |x|/R) has the form of radius R/alpha and the factor alpha beta. Where numbers
    serve, the parameters behind them are given apart: a dozen operations on one element less.
    """
    radial: Any = manifold.radial_law
    law_and_learned = _in_numbers(manifold, scaling_law) if backend(x) is np else None
    radius: Tensor | float
    if law_and_learned is None:
        radius = manifold.inverse_square_radius(torch.float64).rsqrt()
    else:
        radius = radius_of(manifold)
    law, learned = law_and_learned or (scaling_law.law(torch.float64), [])
    edge = _edge(radial, x, by_token)
    if law.unit:
        return Chart(radial, radius, law.alpha, edge, limit), None, learned
    gain = None if isinstance(law.gain, float) and law.gain == 1.0 else law.gain
    return Chart(radial, radius / law.alpha, None, edge, limit), gain, learned


def _in_numbers(manifold: Radial, scaling_law: NormScaling) -> tuple[ScaleLaw, list[LearnedScalar]] | None:
    """The law in floats, and what moves log R, log alpha and log gain how fast; None if that is unknown."""
    law = scaling_law.law(None)
    if not torch.is_grad_enabled():
        return law, []
    # R = |kappa0 exp(raw)|^(-1/2).
    learned: list[LearnedScalar] = [(raw, (-0.5, 0.0, 0.0)) for raw in learned_of(manifold.curvature)]
    if learned_of(scaling_law):
        if scaling_law.powers is None:
            return None
        alpha, gain = map(float, scaling_law.powers)
        slopes = (0.0, alpha, 0.0) if law.unit else (-alpha, 0.0, gain)
        # By name: a class that keeps its parent's law may have parameters which that law does not read.
        log_scale: Any = scaling_law._parameters["log_scale"]
        learned.append((log_scale, slopes))
    return law, learned
