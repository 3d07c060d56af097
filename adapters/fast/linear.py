"""The update where logmap0 and expmap0 cancel: gain B A x, as plain LoRA but for the norm scaling."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.precision import geometry_dtype


def update(
    norm_scaling: NormScaling,
    learned: Sequence[Tensor],
    x: Float[Tensor, "*tokens n"],
    A: Float[Tensor, "r n"],
    B: Float[Tensor, "m r"],
) -> Float[Tensor, "*tokens m"]:
    """gain * B A x; ``learned`` are the parameters of geometry and scaling, which have no other effect."""
    kept, wide = x.dtype, torch.promote_types(x.dtype, A.dtype)
    law = norm_scaling.law(geometry_dtype(x))
    if law.unit:
        x, _ = norm_scaling.scale(x.to(geometry_dtype(x)))
    factor = _anchor(learned) * (1.0 if law.unit else law.gain)
    u = functional.linear(x.to(wide), A.to(wide))
    u = u if isinstance(factor, float) and factor == 1.0 else (u * factor).to(u.dtype)
    return functional.linear(u, B.to(u.dtype)).to(kept)


def _anchor(learned: Sequence[Tensor]) -> Tensor | float:
    """1, as a function of every learned number: DDP refuses those that no output depends on."""
    if not learned or not torch.is_grad_enabled():
        return 1.0
    return 1.0 + 0.0 * torch.cat([one.flatten() for one in learned]).sum()
