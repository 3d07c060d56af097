"""One adapted layer: a training step, a forward pass, tokens at a time, memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from manifold_lora.experiments.bench.contest import Contest
from manifold_lora.experiments.bench.contestants import (
    DORA,
    EVERYONE,
    FROZEN,
    OTHERS,
    OURS,
    Shape,
    one_layer,
)
from manifold_lora.experiments.bench.cost import (
    BASELINE,
    DTYPES,
    FORWARD,
    PEAK,
    SAVED,
    STEP,
    Cost,
    counted,
    timed,
)
from manifold_lora.experiments.bench.memory import peak_bytes, saved_bytes
from manifold_lora.experiments.bench.oracle import Results, check, gradients
from manifold_lora.experiments.bench.rounds import Pace

SHAPES: tuple[Shape, ...] = (
    (512, 768, 768, 8),
    (512, 1024, 1024, 32),
    (1024, 4096, 4096, 32),
    (1024, 4096, 11008, 32),
)
DECODED = (1, 2, 16, 64)
# Where the products outweigh the geometry.
_WIDE = 1024
# Of layers with more weights than these a few contestants are timed, and these many products are checked.
_LARGE, _CHECKED = 2**24, 2**31


def decode(tokens: int) -> str:
    """The name of a forward pass of a few tokens."""
    return f"decode {tokens}"


def step(model: nn.Module, x: Tensor, upstream: Tensor) -> None:
    """Forward and backward."""
    model.zero_grad(set_to_none=True)
    x.grad = None
    model(x).backward(upstream)


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """The output, without a graph."""
    with torch.no_grad():
        output: Tensor = model(x)
        return output


@dataclass(frozen=True)
class LayerContest(Contest):
    """The contestants on one layer."""

    shape: Shape
    names: Sequence[str] = EVERYONE

    def check(self) -> dict[str, float]:
        """``oracle.check`` of a step, a forward pass and tokens at a time, on as many tokens as are cheap."""
        tokens, n, m, _ = self.shape
        rows = min(tokens, max(DECODED[-1] + 1, _CHECKED // (n * m)))
        x, upstream = self._given()
        work = partial(_work, x=x.detach()[:rows], upstream=upstream[:rows])
        return check(self.where, self.dtype, self._models(), work)

    def costs(self, pace: Pace) -> Iterator[Cost]:
        """Times of all contestants, then their memory."""
        models, (x, upstream) = self._models(), self._given()
        own = (self.where, self.dtype)
        yield from timed(*own, STEP, models, lambda model: step(model, x, upstream), pace)
        yield from timed(*own, FORWARD, models, lambda model: forward(model, x), pace)
        for tokens in DECODED:
            few = x.detach()[:tokens].clone()
            yield from timed(*own, decode(tokens), models, partial(_few, x=few), pace)
        saved = {name: saved_bytes(model, partial(model, x)) for name, model in models.items()}
        yield from counted(*own, SAVED, saved, self.shape[0])
        peaks = {name: peak_bytes(partial(step, model, x, upstream)) for name, model in models.items()}
        yield from counted(*own, PEAK, peaks, self.shape[0])

    def asked(self, what: str, contestant: str) -> float | None:
        """Of ours and its arms: LoRA's peak, decoding near it, and from 1024 wide on steps near it."""
        if contestant not in (OURS, *OTHERS):
            return None
        everywhere = {PEAK: 1.0, decode(1): 1.05, **{decode(few): 1.15 for few in DECODED[1:]}}
        if what in everywhere:
            return everywhere[what]
        if self.shape[1] >= _WIDE:
            return {STEP: 1.02 if contestant == OURS else 1.10, SAVED: 100.0}.get(what)
        narrow = contestant == OURS and what == STEP and self.dtype == "bfloat16"
        return 1.10 if narrow else None

    def _models(self) -> dict[str, nn.Module]:
        return one_layer(self.shape, DTYPES[self.dtype], self.names)

    def _given(self) -> tuple[Tensor, Tensor]:
        tokens, n, m, _ = self.shape
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(tokens, n, generator=generator).to(DTYPES[self.dtype]).requires_grad_()
        return x, torch.randn(tokens, m, generator=generator).to(DTYPES[self.dtype])


def layer_contest(shape: Shape, dtype: str) -> LayerContest:
    """Everyone on a layer; a few on a large one."""
    names = EVERYONE if shape[1] * shape[2] <= _LARGE else (BASELINE, DORA, OURS, FROZEN)
    return LayerContest("x".join(str(size) for size in shape), dtype, shape, names)


def _few(model: nn.Module, x: Tensor) -> None:
    forward(model, x)


def _work(model: nn.Module, dtype: torch.dtype, x: Tensor, upstream: Tensor) -> Results:
    given = x.to(dtype, copy=True).requires_grad_()
    found = {f"output of {count} tokens": forward(model, given[:count]) for count in DECODED}
    found["output without a graph"] = forward(model, given)
    model.zero_grad(set_to_none=True)
    output: Tensor = model(given)
    output.backward(upstream.to(dtype))
    assert given.grad is not None
    return {**found, "output": output, "gradient by x": given.grad, **gradients(model)}
