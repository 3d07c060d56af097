"""The core between the factors of a low-rank update, and the manifolds that the factors live on."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.weights import WeightSpec
from manifold_lora.manifolds.frames import Frames, Landing
from manifold_lora.manifolds.registry import FRAMES


class FramedWeights(nn.Module):
    """B core A with A (r, n) and B (m, r) of a layer; ``weight`` is the core, None where there is none.

    Args:
        spec: of the three.
        rank: r.
    """

    def __init__(self, spec: WeightSpec, rank: int) -> None:
        super().__init__()
        self.spec = spec
        shape = {"full": (rank, rank), "diagonal": (rank,)}.get(spec.core)
        self.weight = None if shape is None else nn.Parameter(torch.zeros(shape))

    def down(self, A: Float[Tensor, "r n"]) -> Float[Tensor, "r n"]:
        """core A, which takes the place of A."""
        if self.weight is None:
            return A
        core = self.weight.to(A.dtype)
        return core @ A if core.dim() > 1 else core[:, None] * A

    @torch.no_grad()
    def start(self, A: Float[Tensor, "r n"], B: Float[Tensor, "m r"]) -> None:
        """Give A, and under a core B, random orthonormal rows and columns, and the core zeros."""
        for factor in (A, B) if self.weight is not None else (A,):
            if not factor.is_meta:
                factor.copy_(nn.init.orthogonal_(torch.empty(factor.shape, device=factor.device)))
        if self.weight is not None and not self.weight.is_meta:
            self.weight.zero_()


def frames_of(spec: WeightSpec, factor: Literal["A", "B"]) -> Frames:
    """The manifold of the rows of A, or of the columns of B."""
    name, step = spec.step_of(factor)
    made: Frames = Landing() if step == "landing" else FRAMES[name]()
    return made
