"""What an adapter costs beside peft's LoRA: ``manifold-lora bench adapters``.

Every contestant is first compared with its work in float64; one that computes something else ends the run
with exit code 1. Then each round runs all contestants in a new random order on one thread and takes CPU time;
a figure is the median over rounds of the ratio to LoRA of the same round, with quartiles. Memory is counted.
"""

import json
import math
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.bench import page, tables
from manifold_lora.experiments.bench.contest import Contest
from manifold_lora.experiments.bench.contestants import Shape
from manifold_lora.experiments.bench.cost import DTYPES, line
from manifold_lora.experiments.bench.groups import SIZES, group_contest
from manifold_lora.experiments.bench.layers import SHAPES, layer_contest
from manifold_lora.experiments.bench.machine import described, has_bfloat16, keep_pages, one_thread
from manifold_lora.experiments.bench.models import SMOLLM2, has_smollm2, model_contests
from manifold_lora.experiments.bench.oracle import Differs
from manifold_lora.experiments.bench.rounds import FEWEST, Pace
from manifold_lora.experiments.settings.plain_flags import PlainFlags

HEADINGS = {"layers": page.LAYERS, "groups": page.GROUPS, "models": page.MODELS}
HEAD = f"""{page.ADAPTERS}

A section is made by the command that it names and replaced by the next one. Times are CPU time of one
thread: the median over rounds of the ratio to LoRA of the same round, with quartiles (all contestants run
in every round, in random order), and the contestant's own time. Memory is counted, not timed: bytes a token
that are saved for the backward pass beyond what LoRA saves, and the most that a step holds. Before anything
is timed the outputs and gradients of every contestant are compared with float64, of ours by the geometry's
own maps (of whole models in bfloat16 the outputs alone: their gradients keep no digit, LoRA's neither); the
command ends with exit code 1 where one differs. "By hand", "textbook" and "geoopt" are plain modules
without peft's calls around them: a part of what they save. "Frozen" is the layer with no adapter: the floor
of torch's own products. In float32 these are MKL's, and those of an update and of its backward oneDNN's,
which are quicker where the processor is not Intel's: why ours can lie below the floor. "Asked" are the
project's own targets."""
UNMEASURED = f"""{page.GPU}

Unmeasured: no GPU was at hand. `manifold-lora bench gpu --out docs/cost.md` measures it and writes this
section. Asked: at 8192 tokens, 4096 x 4096, rank 32, bfloat16 a step of at most 0.95 of LoRA's.
"""
# What a quick run and emulated products leave out: wider layers, and SmolLM2.
_WIDEST = 1024
EMULATED = f"""This processor has no bfloat16 instructions: torch emulates the products, which weigh more than
elsewhere, and in bfloat16 layers wider than {_WIDEST} and {SMOLLM2} are left out."""
NOT_FETCHED = f"{SMOLLM2} is left out: it is not fetched (`manifold-lora fetch smollm2`)."


def contests(section: str, dtypes: Sequence[str], shapes: Sequence[Shape], quick: bool) -> Iterator[Contest]:
    """What a section runs: of layers those named, or all; without what takes long where that is asked."""
    for dtype in dtypes:
        short = quick or (dtype == "bfloat16" and not has_bfloat16())
        most = _WIDEST if short else math.inf
        if section == "layers":
            chosen = shapes or [shape for shape in SHAPES if shape[1] <= most]
            yield from (layer_contest(shape, dtype) for shape in chosen)
        elif section == "groups":
            yield from (group_contest(*size, dtype) for size in SIZES if size[0] <= most)
        else:
            yield from (model for model in model_contests(dtype) if not (short and SMOLLM2 in model.where))


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench adapters [--only layers] [--quick] [--out docs/cost.md]``."""
    given = _flags(argv)
    command = " ".join(["manifold-lora bench adapters", *(sys.argv[3:] if argv is None else argv)])
    dtypes, pace = given.dtype or list(DTYPES), Pace(given.rounds, given.seconds)
    with one_thread():
        keep_pages()
        made = f"Made by `{command}`, {described()}."
        planned = {
            name: list(contests(name, dtypes, given.shape or (), given.quick))
            for name in given.only or HEADINGS
        }
        try:
            for contest in [contest for found in planned.values() for contest in found]:
                largest = max(contest.check().values())
                print(f"{contest.where}, {contest.dtype}: within {largest:.1g} of float64", file=sys.stderr)
        except Differs as error:
            print(f"manifold-lora bench adapters: {error}", file=sys.stderr)
            return 1
        for name, found in planned.items():
            costs = []
            for contest in found:
                for cost in contest.measured(pace):
                    costs.append(cost)
                    print(json.dumps(asdict(cost)) if given.json else line(cost), flush=True)
            if given.out:
                fresh = tables.section(HEADINGS[name], made, costs, _left_out(name, dtypes))
                write(given.out, HEADINGS[name], fresh)
    return 0


def write(path: Path, heading: str, fresh: str) -> None:
    """Put a section into the page of costs, whose other sections stay."""
    old = page.section_of(path.read_text(), page.GPU) if path.exists() else ""
    sections = {page.GPU: old or UNMEASURED, heading: fresh}
    page.write_page(path, HEAD, [*HEADINGS.values(), page.GPU], sections)


def _flags(argv: Sequence[str] | None) -> Namespace:
    """The command line. Raises ManifoldLoraError for what it does not know."""
    parser = PlainFlags(prog="manifold-lora bench adapters", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(HEADINGS), help="a section; may be repeated")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help=f"of a comparison, after which it ends with {FEWEST} rounds or more",
    )
    parser.add_argument("--quick", action="store_true", help="without the largest layers and SmolLM2")
    parser.add_argument("--shape", action="append", type=parse_shape, help="tokens,in,out,rank of a layer")
    parser.add_argument("--dtype", action="append", choices=list(DTYPES))
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--out", type=Path, help="the page of costs, where the sections go")
    given = parser.parse_args(argv)
    if given.rounds < 2:
        raise ManifoldLoraError("--rounds", given.rounds, "2 or more: one round has no quartiles")
    return given


def _left_out(name: str, dtypes: Sequence[str]) -> list[str]:
    reasons = {
        EMULATED: "bfloat16" in dtypes and not has_bfloat16(),
        NOT_FETCHED: name == "models" and not has_smollm2(),
    }
    return [text for text, holds in reasons.items() if holds]


def parse_shape(text: str) -> Shape:
    """From "tokens,in,out,rank". Raises ManifoldLoraError for anything else."""
    try:
        tokens, n, m, rank = (int(size) for size in text.split(","))
    except ValueError:
        raise ManifoldLoraError("--shape", text, "tokens,in,out,rank, as 512,768,768,8") from None
    return tokens, n, m, rank


if __name__ == "__main__":
    sys.exit(main())
