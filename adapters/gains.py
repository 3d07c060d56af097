"""How much longer a geometry makes an update than LoRA's: c = |delta| / |B A x|, token by token."""

from collections.abc import Callable

import torch
from torch import Tensor

from manifold_lora.adapters.norm_scaling import ScaleLaw
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold

# The length of an update that is small for every curvature in use.
_SMALL = 1e-5


def linear_gain(law: ScaleLaw, x: Tensor) -> Tensor | float:
    """The factor of a linear update: alpha beta, or alpha beta / abs(x) where all tokens get one length."""
    return (
        functions.ratio(law.gain * torch.ones_like(x[..., :1]), functions.norm(x)) if law.unit else law.gain
    )


def measured_gain(delta: Tensor, x: Tensor, A: Tensor, B: Tensor, limit: Callable[[], Tensor]) -> Tensor:
    """abs(delta) / abs(B A x), and ``limit`` where B A x = 0."""
    plain = functions.norm(x @ A.T @ B.T)
    measured = functions.ratio(functions.norm(delta), plain)
    return torch.where(plain == 0, limit(), measured) if bool((plain == 0).any()) else measured


def small_gain(manifold: Manifold, law: ScaleLaw, x: Tensor) -> Tensor:
    """The limit of c under ``direct`` as B A x goes to 0: what the geometry makes of a small step along x."""
    image = manifold.coords(manifold.expmap0(law.scale(x)))
    step = functions.unit(image) * _SMALL
    stretch = functions.norm(manifold.logmap0(manifold.lift(step))) / _SMALL
    limit = functions.ratio(functions.norm(image) * stretch * law.beta, functions.norm(x))
    return torch.where(x.abs().amax(-1, keepdim=True) == 0, law.gain, limit)
