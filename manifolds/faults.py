"""What is wrong with a tensor that should be a point: found once, before the hot path that checks nothing."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from manifold_lora.manifolds.precision import Geometry


class Fault(NamedTuple):
    """The got / allowed / hint of a PointError."""

    got: str
    allowed: str
    hint: str = ""


def _row(bad: Tensor) -> str:
    index = bad.nonzero()[0].tolist()
    return f"row {tuple(index)}" if index else "the point"


def _shape_fault(manifold: Geometry, x: Tensor, n: int | None) -> Fault | None:
    extra = manifold.extra_dims
    if not x.is_floating_point():
        return Fault(f"a tensor of {x.dtype}", "a floating-point tensor")
    if x.ndim == 0 or x.shape[-1] < 1 + extra or (n is not None and x.shape[-1] != n + extra):
        wanted = f"{n} + {extra}" if n is not None else f"at least 1 + {extra}"
        return Fault(f"a tensor of shape {tuple(x.shape)}", f"a last axis of {wanted} coordinates")
    home = manifold.kappa.device
    if x.device != home:
        return Fault(f"a tensor on {x.device}", f"a tensor on {home}", "move the manifold or the tensor")
    return None


def tolerance(dtype: torch.dtype) -> float:
    """How far off the manifold, relative to its size, a point of this dtype may be."""
    return 64 * torch.finfo(dtype).eps


def point_fault(manifold: Geometry, x: Tensor, n: int | None = None) -> Fault | None:
    """The first fault of x as a point, or None."""
    shaped = _shape_fault(manifold, x, n)
    if shaped is not None:
        return shaped
    broken = ~x.isfinite().all(-1)
    if broken.any():
        entry = x[broken][0]
        return Fault(f"{_row(broken)} with entry {entry[~entry.isfinite()][0].item()}", "finite coordinates")
    with torch.no_grad():
        off = (x - manifold.projx(x)).double().norm(dim=-1) / x.double().norm(dim=-1).clamp_min(1.0)
    far = off > tolerance(x.dtype)
    if far.any():
        amount = off[far][0].item()
        return Fault(
            f"{_row(far)} off the manifold by {amount:.3g}",
            f"a relative offset up to {tolerance(x.dtype):.3g} in {x.dtype}",
            "projx brings it back",
        )
    return None


def mixed_fault(points: Sequence[Tensor]) -> Fault | None:
    """The first difference in dtype, device or last axis between tensors used together, or None."""
    first = points[0]
    for x in points[1:]:
        for name in ("dtype", "device"):
            if getattr(x, name) != getattr(first, name):
                return Fault(f"{name}s {getattr(first, name)} and {getattr(x, name)}", f"one {name}")
        if x.shape[-1:] != first.shape[-1:]:
            return Fault(f"shapes {tuple(first.shape)} and {tuple(x.shape)}", "one last axis")
    return None
