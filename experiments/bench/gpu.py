"""What an adapter costs on a GPU beside peft's LoRA: ``manifold-lora bench gpu``.

One command for whoever has the processor: 8192 tokens, 4096 x 4096, rank 32, bfloat16, a training step and a
forward pass, between CUDA events; rounds, ratios and order as in ``bench adapters``. Contestants are peft's
LoRA, LoRA by hand, and ours on Triton's kernels and on torch. Unmeasured so far: no GPU was lent.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from manifold_lora.adapters.fast.choice import LARGEST_RANK, SWITCH, fused_for, torch_only
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.bench import page, tables
from manifold_lora.experiments.bench.adapters import parse_shape, write
from manifold_lora.experiments.bench.contestants import OURS, Shape, one_layer
from manifold_lora.experiments.bench.cost import BASELINE, DTYPES, FORWARD, STEP, Cost, line
from manifold_lora.experiments.bench.layers import forward, step
from manifold_lora.experiments.bench.machine import described
from manifold_lora.experiments.bench.rounds import compare
from manifold_lora.experiments.settings.plain_flags import PlainFlags

SHAPE: Shape = (8192, 4096, 4096, 32)
TORCH_PATH = "ours on torch"
_CONTESTANTS = {BASELINE: BASELINE, "lora by hand": "lora by hand", OURS: OURS, TORCH_PATH: OURS}
# Of a step at SHAPE in bfloat16, on Triton's kernels.
ASKED = 0.95


def require_cuda() -> torch.device:
    """The CUDA device to measure on.

    Raises:
        ManifoldLoraError: there is none.
    """
    if not torch.cuda.is_available():
        hint = "on a CPU: manifold-lora bench adapters"
        raise ManifoldLoraError("device of bench gpu", "no CUDA device", "CUDA", hint)
    return torch.device("cuda", torch.cuda.current_device())


def require_triton(x: Tensor, shape: Shape) -> None:
    """See that what is called ours takes the kernels.

    Raises:
        ManifoldLoraError: it would take the torch path.
    """
    _, n, m, rank = shape
    if fused_for(x, x.new_empty(rank, n), x.new_empty(m, rank)) is None:
        hint = f"needs triton, sm_80 or later, rank <= {LARGEST_RANK}, tokens > rank and no {SWITCH}=0"
        raise ManifoldLoraError("kernels of bench gpu", "the torch path", "Triton's", hint)


def gpu_seconds(act: Callable[[], object], repeats: int) -> float:
    """Time of the device between the first launch and the end of the last."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        act()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end)


def gpu_costs(shape: Shape, dtype: str, rounds: int, repeats: int, device: torch.device) -> Iterator[Cost]:
    """Time of a training step and of a forward pass."""
    tokens, n, m, _ = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, n, generator=generator).to(device, DTYPES[dtype]).requires_grad_()
    require_triton(x, shape)
    layers = one_layer(shape, DTYPES[dtype])
    models = {name: layers[layer].to(device) for name, layer in _CONTESTANTS.items()}
    upstream = torch.randn(tokens, m, generator=generator).to(device, DTYPES[dtype])
    where = "x".join(str(size) for size in shape)
    tasks: dict[str, Callable[[nn.Module], object]] = {
        STEP: lambda model: step(model, x, upstream),
        FORWARD: lambda model: forward(model, x),
    }
    for what, act in tasks.items():
        runs = {name: partial(_run, name, act, model) for name, model in models.items()}
        for name, ratio in compare(runs, BASELINE, rounds, repeats, gpu_seconds).items():
            figures = (ratio.median, ratio.low, ratio.high, ratio.milliseconds)
            asked = ASKED if (name, what, shape, dtype) == (OURS, STEP, SHAPE, "bfloat16") else None
            yield Cost(where, dtype, what, name, *figures, "ms", ratio.rounds, asked)


def _run(name: str, act: Callable[[nn.Module], object], model: nn.Module) -> None:
    path: AbstractContextManager[None] = torch_only() if name == TORCH_PATH else nullcontext()
    with path:
        act(model)


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench gpu [--rounds 50] [--shape 8192,4096,4096,32] [--out docs/cost.md]``."""
    parser = PlainFlags(prog="manifold-lora bench gpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=10, help="steps between two events")
    parser.add_argument("--shape", default=",".join(str(size) for size in SHAPE), help="tokens,in,out,rank")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--out", type=Path, help="the page of costs, where the section goes")
    options = parser.parse_args(argv)
    device, shape = require_cuda(), parse_shape(options.shape)
    costs = []
    for cost in gpu_costs(shape, options.dtype, options.rounds, options.repeats, device):
        costs.append(cost)
        print(json.dumps(asdict(cost)) if options.json else line(cost), flush=True)
    if options.out:
        given = " ".join(["manifold-lora bench gpu", *(sys.argv[3:] if argv is None else argv)])
        made = (
            f"Made by `{given}` on {torch.cuda.get_device_name(device)}, {described()}: time between CUDA "
            "events, ratios, rounds and order as above."
        )
        write(options.out, page.GPU, tables.section(page.GPU, made, costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
