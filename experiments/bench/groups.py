"""Three layers that read one x, as q, k and v do: a training step."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from manifold_lora.experiments.bench.contest import Contest
from manifold_lora.experiments.bench.contestants import APART, DORA, FROZEN, OURS, adapted, apart, configs
from manifold_lora.experiments.bench.cost import BASELINE, DTYPES, STEP, Cost, timed
from manifold_lora.experiments.bench.oracle import Results, check, gradients
from manifold_lora.experiments.bench.rounds import Pace

# (width, rank)
SIZES = ((768, 8), (1024, 32), (2048, 32))
TOKENS = 512
_TARGETS = ["q", "k", "v"]


class _Three(nn.Module):
    """What peft is given to adapt."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(n, n, bias=False) for _ in _TARGETS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q(x), self.k(x), self.v(x)


@dataclass(frozen=True)
class GroupContest(Contest):
    """LoRA, DoRA, ours with and without what layers know of each other, and no adapter."""

    tokens: int
    width: int
    rank: int

    def check(self) -> dict[str, float]:
        """``oracle.check`` of a step."""
        x, upstream = self._given()
        return check(self.where, self.dtype, self._models(), partial(_work, x=x.detach(), upstream=upstream))

    def costs(self, pace: Pace) -> Iterator[Cost]:
        """Time of a training step."""
        x, upstream = self._given()
        yield from timed(
            self.where, self.dtype, STEP, self._models(), partial(_step, x=x, upstream=upstream), pace
        )

    def asked(self, what: str, contestant: str) -> float | None:
        """Of ours: less than LoRA by what the layers share."""
        if contestant != OURS:
            return None
        return {(768, "float32"): 0.90, (768, "bfloat16"): 0.90, (1024, "bfloat16"): 0.80}.get(
            (self.width, self.dtype)
        )

    def _models(self) -> dict[str, nn.Module]:
        chosen = configs((BASELINE, DORA, OURS), self.rank, _TARGETS)
        built = {
            name: adapted(lambda: _Three(self.width), config, DTYPES[self.dtype])
            for name, config in {**chosen, APART: chosen[OURS]}.items()
        }
        apart(built[APART])
        torch.manual_seed(0)
        built[FROZEN] = _Three(self.width).to(DTYPES[self.dtype]).requires_grad_(False)
        return built

    def _given(self) -> tuple[Tensor, list[Tensor]]:
        generator = torch.Generator().manual_seed(0)
        x, *upstream = (
            torch.randn(self.tokens, self.width, generator=generator).to(DTYPES[self.dtype]) for _ in range(4)
        )
        return x.requires_grad_(), upstream


def group_contest(width: int, rank: int, dtype: str) -> GroupContest:
    """All three on as many tokens as any size is given."""
    return GroupContest(f"3 x {TOKENS}x{width}x{width}x{rank}", dtype, TOKENS, width, rank)


def _step(model: nn.Module, x: Tensor, upstream: list[Tensor]) -> tuple[Tensor, ...]:
    model.zero_grad(set_to_none=True)
    x.grad = None
    outputs: tuple[Tensor, ...] = model(x)
    torch.autograd.backward(outputs, upstream)
    return outputs


def _work(model: nn.Module, dtype: torch.dtype, x: Tensor, upstream: list[Tensor]) -> Results:
    given = x.to(dtype, copy=True).requires_grad_()
    outputs = _step(model, given, [g.to(dtype) for g in upstream])
    assert given.grad is not None
    return {"output": torch.cat(outputs), "gradient by x": given.grad, **gradients(model)}
