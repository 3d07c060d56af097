"""What an adapter costs beside peft's LoRA: ``manifold-lora bench adapters``.

Each round runs all contestants in a new random order on one thread and takes CPU time; a figure is the median
over rounds of the ratio to LoRA of the same round, with quartiles. Memory is counted, not timed.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from manifold_lora.experiments.bench.contestants import BASELINE, Shape, configs, one_layer, started
from manifold_lora.experiments.bench.geometry import kept_section
from manifold_lora.experiments.bench.memory import peak_bytes, saved_bytes
from manifold_lora.experiments.bench.rounds import compare
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.models.tuner.apply import adapt

SHAPES: tuple[Shape, ...] = ((512, 768, 768, 8), (1024, 4096, 4096, 32), (1024, 4096, 11008, 32))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODEL_SHAPE = "llama 25M, 4 x 128 tokens"
_DECODES = 20
HEAD = """# What an adapter costs, as a ratio to peft's LoRA

Made by `{command}`: CPU time of one thread, median over rounds of the ratio to LoRA of the same round, with
quartiles (all contestants run in every round, in random order). Memory is counted, not timed. "By hand",
"textbook" and "geoopt" are plain modules without peft's calls around them: a part of what they save."""


@dataclass(frozen=True)
class Cost:
    """One figure: a contestant's ratio to peft's LoRA, median and quartiles, and its own ms or MiB."""

    shape: str
    dtype: str
    what: str
    contestant: str
    ratio: float
    low: float
    high: float
    amount: float
    unit: str


def step(model: nn.Module, x: Tensor, upstream: Tensor) -> None:
    """Forward and backward."""
    model.zero_grad(set_to_none=True)
    x.grad = None
    model(x).backward(upstream)


def forward(model: nn.Module, x: Tensor) -> None:
    """Without a graph."""
    with torch.no_grad():
        model(x)


def layer_costs(shape: Shape, dtype: str, rounds: int) -> Iterator[Cost]:
    """Time of a training step, a forward pass and a decoded token; memory saved and held by a step."""
    tokens, n, m, _ = shape
    models = one_layer(shape, DTYPES[dtype])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, n, generator=generator).to(DTYPES[dtype]).requires_grad_()
    upstream = torch.randn(tokens, m, generator=generator).to(DTYPES[dtype])
    token = x.detach()[:1]
    where = "x".join(str(size) for size in shape)
    tasks: dict[str, tuple[Callable[[nn.Module], object], int]] = {
        "training step": (lambda model: step(model, x, upstream), 1),
        "forward": (lambda model: forward(model, x), 1),
        "decode": (lambda model: forward(model, token), _DECODES),
    }
    for what, (act, repeats) in tasks.items():
        yield from _timed(where, dtype, what, models, act, rounds, repeats)
    yield from _counted(
        where,
        dtype,
        "saved for backward",
        {name: saved_bytes(m, partial(m, x)) for name, m in models.items()},
    )
    yield from _counted(
        where,
        dtype,
        "peak of a step",
        {name: peak_bytes(partial(step, m, x, upstream)) for name, m in models.items()},
    )


def model_costs(dtype: str, rounds: int) -> Iterator[Cost]:
    """Time of a training step of a random Llama of 25 M parameters with every linear layer adapted."""
    models: dict[str, nn.Module] = {}
    for name, config in configs(16, "all-linear").items():
        torch.manual_seed(0)
        models[name] = started(adapt(LlamaForCausalLM(_llama()), config)).to(DTYPES[dtype])
    ids = torch.randint(0, 4096, (4, 128), generator=torch.Generator().manual_seed(0))

    def act(model: nn.Module) -> None:
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids).loss.backward()

    yield from _timed(MODEL_SHAPE, dtype, "training step", models, act, rounds, 1)


def _llama() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=7,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=128,
    )


def _timed(
    where: str,
    dtype: str,
    what: str,
    models: dict[str, nn.Module],
    act: Callable[[nn.Module], object],
    rounds: int,
    repeats: int,
) -> Iterator[Cost]:
    runs = {name: partial(act, model) for name, model in models.items()}
    for name, ratio in compare(runs, BASELINE, rounds, repeats).items():
        yield Cost(where, dtype, what, name, ratio.median, ratio.low, ratio.high, ratio.milliseconds, "ms")


def _counted(where: str, dtype: str, what: str, sizes: dict[str, int]) -> Iterator[Cost]:
    for name, size in sizes.items():
        ratio = size / sizes[BASELINE]
        yield Cost(where, dtype, what, name, ratio, ratio, ratio, size / 2**20, "MiB")


def run_adapter_bench(
    shapes: Sequence[Shape], dtypes: Sequence[str], rounds: int, model: bool
) -> Iterator[Cost]:
    """Costs of all contestants as they are measured; torch has one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in dtypes:
            for shape in shapes:
                yield from layer_costs(shape, dtype, rounds)
            if model:
                yield from model_costs(dtype, rounds)
    finally:
        torch.set_num_threads(threads)


def markdown(costs: Sequence[Cost], head: str) -> str:
    """One table a shape and dtype under the head: contestants down, measurements across."""
    parts = [head]
    for where, dtype in dict.fromkeys((cost.shape, cost.dtype) for cost in costs):
        here = [cost for cost in costs if (cost.shape, cost.dtype) == (where, dtype)]
        kinds = list(dict.fromkeys(cost.what for cost in here))
        lines = [
            f"## {where}, {dtype}\n",
            f"| contestant | {' | '.join(kinds)} |",
            "|---" * (len(kinds) + 1) + "|",
        ]
        for name in dict.fromkeys(cost.contestant for cost in here):
            cells = [_cell(cost) for cost in here if cost.contestant == name]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(cost: Cost) -> str:
    spread = f" [{cost.low:.2f}, {cost.high:.2f}]" if cost.unit == "ms" else ""
    return f"{cost.ratio:.3f}{spread} ({cost.amount:.3g} {cost.unit})"


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench adapters [--rounds 30] [--shape 512,768,768,8] [--out docs/cost.md]``."""
    parser = PlainFlags(prog="manifold-lora bench adapters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--shape", action="append", help="tokens,in,out,rank; may be repeated")
    parser.add_argument("--dtype", action="append", choices=list(DTYPES))
    parser.add_argument("--no-model", action="store_true", help="leave the whole-model step out")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--out", type=Path, help="also write the table as Markdown")
    options = parser.parse_args(argv)
    shapes = [parse_shape(text) for text in options.shape or ()] or SHAPES
    costs = []
    for cost in run_adapter_bench(
        shapes, options.dtype or list(DTYPES), options.rounds, not options.no_model
    ):
        costs.append(cost)
        print(json.dumps(asdict(cost)) if options.json else line(cost), flush=True)
    if options.out:
        given = " ".join(["manifold-lora bench adapters", *(sys.argv[3:] if argv is None else argv)])
        # What bench geometry wrote into the same file stays.
        table, kept = markdown(costs, HEAD.format(command=given)), kept_section(options.out)
        write_text(options.out, f"{table}\n{kept}" if kept else table)
    return 0


def parse_shape(text: str) -> Shape:
    """From "tokens,in,out,rank"."""
    tokens, n, m, rank = (int(size) for size in text.split(","))
    return tokens, n, m, rank


def line(cost: Cost) -> str:
    """One figure for the console."""
    figure = f"{cost.ratio:6.3f}  [{cost.low:.3f}, {cost.high:.3f}]  {cost.amount:10.3f} {cost.unit}"
    return f"{cost.shape:26} {cost.dtype:9} {cost.what:18} {cost.contestant:13} {figure}"


if __name__ == "__main__":
    sys.exit(main())
