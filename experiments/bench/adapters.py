"""What an adapter costs beside peft's LoRA: ``manifold-lora bench adapters``.

All contestants adapt the same frozen layer through peft. Each round runs all of them in a new random order on
one thread and takes CPU time; a figure is the median over rounds of the ratio to LoRA of the same round, with
quartiles: what the machine does meanwhile falls on both sides of a ratio.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from manifold_lora.adapters.config import HYPLORA
from manifold_lora.adapters.manifold_update import ManifoldUpdate
from manifold_lora.models.adapt import adapt
from manifold_lora.models.peft_config import ManifoldLoraConfig

# (tokens, in_features, out_features, rank)
Shape = tuple[int, int, int, int]
SHAPES: tuple[Shape, ...] = ((512, 768, 768, 8), (1024, 4096, 4096, 32))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BASELINE = "lora"
_WARMUP = 2


@dataclass(frozen=True)
class Cost:
    """One figure: the ratio of a contestant's CPU time to the baseline's, median and quartiles."""

    shape: Shape
    dtype: str
    what: str
    contestant: str
    ratio: float
    low: float
    high: float
    milliseconds: float


class _OneLayer(nn.Module):
    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, m, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def contestants(shape: Shape, dtype: torch.dtype) -> dict[str, nn.Module]:
    """The same layer with each adapter; ``textbook`` goes through the geometry's maps one by one."""
    _, n, m, rank = shape
    common: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": ["layer"]}
    configs: dict[str, LoraConfig] = {
        BASELINE: LoraConfig(**common),
        "dora": LoraConfig(use_dora=True, **common),
        "textbook hyplora": ManifoldLoraConfig.from_spec(HYPLORA, **common),
        "hyplora": ManifoldLoraConfig.from_spec(HYPLORA, **common),
    }
    built: dict[str, nn.Module] = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        model = adapt(_OneLayer(n, m).to(dtype), config).to(dtype)
        for part in model.modules():
            if isinstance(part, ManifoldUpdate) and name.startswith("textbook"):
                part.use("general")
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                nn.init.normal_(parameter, std=0.02)
        built[name] = model
    return built


def _step(model: nn.Module, x: Tensor, upstream: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    x.grad = None
    model(x).backward(upstream)


def _forward(model: nn.Module, x: Tensor, upstream: Tensor) -> None:
    with torch.no_grad():
        model(x)


def _decode(model: nn.Module, x: Tensor, upstream: Tensor) -> None:
    with torch.no_grad():
        model(x[:1])


TASKS: dict[str, Callable[[nn.Module, Tensor, Tensor], None]] = {
    "training step": _step,
    "forward": _forward,
    "decode": _decode,
}


def _times(
    models: dict[str, nn.Module], run: Callable[[nn.Module], None], rounds: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in models}
    order, shuffle = list(models), random.Random(0).shuffle
    for turn in range(rounds + _WARMUP):
        shuffle(order)
        for name in order:
            start = time.process_time()
            run(models[name])
            spent = time.process_time() - start
            if turn >= _WARMUP:
                times[name].append(spent)
    return times


def run_adapter_bench(
    shapes: Sequence[Shape] = SHAPES,
    dtypes: Sequence[str] = tuple(DTYPES),
    rounds: int = 30,
    tasks: Sequence[str] = tuple(TASKS),
) -> list[Cost]:
    """Costs of all contestants at all shapes, dtypes and tasks; sets torch to one thread while it runs."""
    threads, costs = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for shape in shapes:
            for dtype in dtypes:
                costs += _costs(shape, dtype, rounds, tasks)
    finally:
        torch.set_num_threads(threads)
    return costs


def _costs(shape: Shape, dtype: str, rounds: int, tasks: Sequence[str]) -> list[Cost]:
    tokens, n, m, _ = shape
    models = contestants(shape, DTYPES[dtype])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, n, generator=generator).to(DTYPES[dtype]).requires_grad_()
    upstream = torch.randn(tokens, m, generator=generator).to(DTYPES[dtype])
    costs = []
    for what in tasks:
        # A decode step is microseconds: more of them make one measurement.
        repeats = 20 if what == "decode" else 1

        def run(model: nn.Module, task: str = what, repeats: int = repeats) -> None:
            for _ in range(repeats):
                TASKS[task](model, x, upstream)

        times = _times(models, run, rounds)
        for name, spent in times.items():
            ratios = [mine / base for mine, base in zip(spent, times[BASELINE], strict=True)]
            low, median, high = statistics.quantiles(ratios, n=4)
            milliseconds = 1e3 * statistics.median(spent) / repeats
            costs.append(Cost(shape, dtype, what, name, median, low, high, milliseconds))
    return costs


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench adapters [--rounds 30] [--shape 512,768,768,8]``."""
    parser = argparse.ArgumentParser(prog="manifold-lora bench adapters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--shape", action="append", help="tokens,in,out,rank; may be repeated")
    parser.add_argument("--dtype", action="append", choices=list(DTYPES))
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    options = parser.parse_args(argv)
    shapes = [tuple(int(size) for size in text.split(",")) for text in options.shape or ()] or SHAPES
    for cost in run_adapter_bench(shapes, options.dtype or tuple(DTYPES), options.rounds):  # type: ignore[arg-type]
        if options.json:
            print(json.dumps(asdict(cost)))
            continue
        where = "x".join(str(size) for size in cost.shape)
        figure = f"{cost.ratio:6.3f}  [{cost.low:.3f}, {cost.high:.3f}]  {cost.milliseconds:10.3f} ms"
        print(f"{where:20} {cost.dtype:9} {cost.what:14} {cost.contestant:17} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
