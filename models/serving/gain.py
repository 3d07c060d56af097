"""The gain c in delta = c B A x as numbers that a server keeps per adapted layer, all its B among them.

abs(B u) = abs(F u) with B = Q F, so that of a B (m, r) an F (r, r) is enough: its condition is B's own, where
that of B^T B would be the square.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.choice import has_fused
from manifold_lora.adapters.fast.fused import chart_of
from manifold_lora.adapters.transforms import Direct
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.euclidean import Euclidean
from manifold_lora.manifolds.radial_law import RadialLaw

SERVED = "tangent, or direct on a radial geometry with the tokens' own norms"


class Form(NamedTuple):
    """What the gains of two tokens have in common where they are computed in one go.

    Args:
        law: the radial functions.
        unit: does every token enter at the same length?
        by_token: does the curvature follow a token's norm?
        edge, limit: of ``adapters.fast.scalars.Chart``.
    """

    law: RadialLaw
    unit: bool
    by_token: bool
    edge: float
    limit: float


class ServedGain(NamedTuple):
    """The gain of one adapted layer.

    Args:
        form: None where c is ``factor`` for every token.
        factor: what multiplies the geometry's own gain.
        radius: R, with the norm scaling's constant factor taken in.
        length: the length of every token where the form says that there is one.
        gate, reference: of a curvature by token, kappa_t = kappa exp(gate h), h of abs(x)/reference.
        root: F, (k, r) in float32, k = min(m, r).
    """

    form: Form | None
    factor: float
    radius: float
    length: float
    gate: float
    reference: float
    root: Float[Tensor, "k r"]


@torch.no_grad()
def served_gain(update: ManifoldUpdate, B: Float[Tensor, "m r"], dtype: torch.dtype) -> ServedGain:
    """The gain of a layer with these parts and this B, for tokens of ``dtype``.

    Raises ManifoldLoraError for parts whose update is not c B A x with c a function of abs(x) and abs(B A x).
    """
    check_served(update)
    root = torch.linalg.qr(B.double(), mode="r").R.float()
    manifold, scaling = update.manifold, update.norm_scaling
    if update.path == "linear":
        law = scaling.law(None)
        form = Form(Euclidean.radial_law, True, False, math.inf, math.inf) if law.unit else None
        factor = 1.0 if law.unit else float(law.gain)
        return ServedGain(form, factor, 1.0, float(law.alpha), 0.0, 1.0, root)
    curvature = None if update.token_scale is None else update.token_scale.curvature
    like = torch.empty(0, dtype=dtype)
    chart, gain, _ = chart_of(manifold, scaling, update.limit(), like, curvature is not None)  # type: ignore[arg-type]
    gate, reference = (0.0, 1.0) if curvature is None else curvature.in_numbers()
    form = Form(chart.law, chart.length is not None, gate != 0.0, chart.edge, chart.limit)
    length = 1.0 if chart.length is None else float(chart.length)
    return ServedGain(
        form, 1.0 if gain is None else float(gain), float(chart.radius), length, gate, reference, root
    )


def check_served(update: ManifoldUpdate) -> None:
    """Raise ManifoldLoraError naming the part that a server cannot compute from two lengths per token."""
    scale = update.token_scale
    if update.path == "linear":
        return
    if scale is not None and scale.norms is not None:
        raise ManifoldLoraError("served token_norms", "shuffled", SERVED, "it takes other tokens' norms")
    if type(update.transform) is not Direct or not has_fused(update.manifold, update.transform):
        parts = f"{type(update.transform).__name__.lower()} on {type(update.manifold).__name__.lower()}"
        hint = "manifold-lora export --to lora writes the nearest plain LoRA, which any server takes"
        raise ManifoldLoraError("served adapter", parts, SERVED, hint)
