"""What the geometry's operations cost beside geoopt's: ``manifold-lora bench geometry``.

Forward and backward of each operation on 4096 rows of dimension 64, both libraries in every round in random
order on one thread, in CPU time.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import geoopt
import torch
from torch import Tensor
from torch.nn import functional

from manifold_lora.experiments.bench.machine import described, one_thread
from manifold_lora.experiments.bench.memory import saved_bytes
from manifold_lora.experiments.bench.page import GEOMETRY, write_section
from manifold_lora.experiments.bench.rounds import compare
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.manifolds import Manifold, build_manifold

Operation = Callable[..., Tensor]
OPERATIONS = ("dist", "sqdist", "logmap", "expmap", "transp", "expmap0", "logmap0")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
HEAD = """{heading}

Made by {made}: forward and backward on {rows} rows of dimension {n}, CPU time of one
thread, ours over geoopt's, median over rounds with quartiles (both run in every round, in random order), and
the bytes a row that are saved for the backward beyond the inputs. geoopt computes in the dtype it is given:
docs/accuracy.md says what that loses. Its sphere's `dist` is the arc cosine of one product and its `transp` a
projection that is no parallel transport; it has no `sqdist`: the square of `dist` is timed, whose Hessian at
x = y is 0."""


def _free(v: Tensor) -> Tensor:
    return functional.pad(v, (1, 0))


def _lorentz(dtype: torch.dtype) -> tuple[Manifold, dict[str, Operation]]:
    m = geoopt.Lorentz(torch.ones((), dtype=dtype))
    maps = {"expmap0": lambda v: m.expmap0(_free(v)), "logmap0": m.logmap0}
    return build_manifold({"name": "lorentz", "curvature": -1.0}), {**_common(m), **maps}


def _ball(dtype: torch.dtype) -> tuple[Manifold, dict[str, Operation]]:
    m = geoopt.PoincareBall(torch.ones((), dtype=dtype))
    return build_manifold({"name": "poincare", "curvature": -1.0}), _centred(m)


def _stereographic(dtype: torch.dtype) -> tuple[Manifold, dict[str, Operation]]:
    m = geoopt.Stereographic(torch.tensor(0.5, dtype=dtype))
    return build_manifold({"name": "stereographic", "curvature": 0.5}), _centred(m)


def _sphere(dtype: torch.dtype) -> tuple[Manifold, dict[str, Operation]]:
    return build_manifold({"name": "sphere", "curvature": 1.0}), _common(geoopt.Sphere())


def _common(m: geoopt.Manifold) -> dict[str, Operation]:
    return {
        "dist": lambda x, y: m.dist(x, y, keepdim=True),
        "sqdist": lambda x, y: m.dist(x, y, keepdim=True).square(),
        "logmap": m.logmap,
        "expmap": m.expmap,
        "transp": m.transp,
    }


def _centred(m: geoopt.Manifold) -> dict[str, Operation]:
    return {**_common(m), "expmap0": m.expmap0, "logmap0": m.logmap0}


PAIRS = {"lorentz": _lorentz, "poincare": _ball, "stereographic": _stereographic, "sphere": _sphere}


@dataclass(frozen=True)
class OperationCost:
    """One figure: ours over geoopt's, median and quartiles, our milliseconds, bytes saved a row."""

    geometry: str
    operation: str
    dtype: str
    ratio: float
    low: float
    high: float
    milliseconds: float
    saved: float


def _step(act: Operation, given: Sequence[Tensor]) -> Callable[[], None]:
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    upstream = torch.ones_like(act(*leaves))

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        act(*leaves).backward(upstream)

    return step


def _arguments(m: Manifold, dtype: torch.dtype, rows: int, n: int) -> dict[str, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    v, w = torch.randn(2, rows, n, generator=generator, dtype=dtype) / n**0.5
    x, y = m.expmap0(v), m.expmap0(w)
    u = m.logmap(x, y)
    one, two = (x,), (x, y)
    return {
        "dist": two,
        "sqdist": two,
        "logmap": two,
        "expmap": (x, u),
        "transp": (x, y, u),
        "expmap0": (v,),
        "logmap0": one,
    }


def operation_costs(
    geometry: str, dtype: str, rows: int, n: int, rounds: int, only: Sequence[str] = OPERATIONS
) -> Iterator[OperationCost]:
    """Every operation asked for that geoopt has too, as it is measured."""
    m, rival = PAIRS[geometry](DTYPES[dtype])
    given = _arguments(m, DTYPES[dtype], rows, n)
    for name, theirs in rival.items():
        if name not in only:
            continue
        ours: Operation = getattr(m, name)
        runs = {"ours": _step(ours, given[name]), "geoopt": _step(theirs, given[name])}
        ratio = compare(runs, "geoopt", rounds, 2)["ours"]
        leaves = [tensor.clone().requires_grad_() for tensor in given[name]]
        inputs = sum(leaf.nbytes for leaf in leaves)
        saved = max(0.0, (saved_bytes(m, lambda o=ours, t=leaves: o(*t)) - inputs) / rows)  # type: ignore[misc]
        yield OperationCost(
            geometry, name, dtype, ratio.median, ratio.low, ratio.high, ratio.milliseconds, saved
        )


def section(costs: Sequence[OperationCost], made: str, rows: int, n: int) -> str:
    """The table in Markdown: a line for each geometry and operation, a column pair for each dtype."""
    dtypes = list(dict.fromkeys(cost.dtype for cost in costs))
    head = HEAD.format(heading=GEOMETRY, made=made, rows=rows, n=n)
    lines = [f"| geometry | operation | {' | '.join(f'{d}, ours / geoopt | bytes a row' for d in dtypes)} |"]
    lines.append("|---" * (2 + 2 * len(dtypes)) + "|")
    for geometry, operation in dict.fromkeys((cost.geometry, cost.operation) for cost in costs):
        cells = [
            f"{c.ratio:.2f} [{c.low:.2f}, {c.high:.2f}] ({c.milliseconds:.2g} ms) | {c.saved:.0f}"
            for c in costs
            if (c.geometry, c.operation) == (geometry, operation)
        ]
        lines.append(f"| {geometry} | {operation} | {' | '.join(cells)} |")
    return head + "\n\n" + "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench geometry [--rounds 15] [--out docs/cost.md]``."""
    parser = PlainFlags(prog="manifold-lora bench geometry", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--geometry", action="append", choices=list(PAIRS))
    parser.add_argument("--operation", action="append", choices=list(OPERATIONS))
    parser.add_argument("--dtype", action="append", choices=list(DTYPES))
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--out", type=Path, help="also write the table into this Markdown file")
    given = parser.parse_args(argv)
    command = " ".join(["manifold-lora bench geometry", *(sys.argv[3:] if argv is None else argv)])
    costs = []
    with one_thread():
        made = f"`{command}`, {described()}"
        for geometry in given.geometry or PAIRS:
            for dtype in given.dtype or DTYPES:
                asked = given.rows, given.dimension, given.rounds, given.operation or OPERATIONS
                for cost in operation_costs(geometry, dtype, *asked):
                    costs.append(cost)
                    print(json.dumps(asdict(cost)) if given.json else _line(cost), flush=True)
    if given.out:
        write_section(given.out, GEOMETRY, section(costs, made, given.rows, given.dimension))
    return 0


def _line(cost: OperationCost) -> str:
    figure = f"{cost.ratio:6.2f}  [{cost.low:.2f}, {cost.high:.2f}]  {cost.milliseconds:8.2f} ms"
    return f"{cost.geometry:14} {cost.operation:8} {cost.dtype:8} {figure}  {cost.saved:6.0f} bytes a row"


if __name__ == "__main__":
    sys.exit(main())
