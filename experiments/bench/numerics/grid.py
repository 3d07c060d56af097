"""Accuracy of every operation against the oracle, ours beside geoopt's: ``manifold-lora bench numerics``."""

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mpmath import mp
from torch import Tensor

from manifold_lora.experiments.bench.numerics import report as numerics_report
from manifold_lora.experiments.bench.numerics.gradients import measure_gradients
from manifold_lora.experiments.bench.numerics.oracle import (
    DIGITS,
    ORACLES,
    Exact,
    condition,
    exact,
    relative_error,
)
from manifold_lora.experiments.bench.numerics.rivals import RIVALS
from manifold_lora.experiments.bench.numerics.row import ErrorRow
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.manifolds import Manifold, build_manifold
from manifold_lora.manifolds.conformal import Conformal
from manifold_lora.manifolds.hyperboloid import longest

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Grid:
    """What is measured: curvature sizes, norms in units of R and plain, dimensions."""

    kappas: tuple[float, ...] = (1e-6, 1e-2, 0.7, 10.0)
    norms: tuple[float, ...] = (0.0, 1e-8, 1e-4, 1e-2, 0.3, 1.0, 5.0, 14.0, 80.0)
    dims: tuple[int, ...] = (2, 64, 4096)


QUICK = Grid(kappas=(1e-6, 0.7, 10.0), norms=(0.0, 1e-8, 1e-4, 0.3, 1.0, 5.0, 14.0, 80.0), dims=(2, 64))


class Bench:
    """One geometry at one curvature and dtype."""

    def __init__(self, name: str, kappa: float, dtype: torch.dtype) -> None:
        self.name, self.kappa, self.dtype = name, kappa, dtype
        self.manifold: Manifold = build_manifold({"name": name, "curvature": kappa})
        self.oracle = ORACLES[name](kappa)
        self.rival = RIVALS[name](kappa, dtype)
        # Lorentz is measured in space coordinates, the others in all of theirs.
        self.skip = 1 if name == "lorentz" else 0

    def _full(self, space: Tensor) -> Tensor:
        return self.manifold.lift(space) if self.skip else space

    def _with_time(self, x: Tensor, u: Tensor) -> Tensor:
        if not self.skip:
            return u
        time = (x[..., 1:].double() * u.double()).sum(-1, keepdim=True) / x[..., :1].double()
        return torch.cat([time.to(u.dtype), u], -1)

    def ours(self, operation: str, *inputs: Tensor) -> Tensor:
        """Our result for inputs given in the coordinates of the oracle."""
        m = self.manifold
        if operation == "expmap0":
            return m.expmap0(*inputs)[..., self.skip :]
        x = self._full(inputs[0])
        if operation == "logmap0":
            return m.logmap0(x)
        if operation in ("expmap", "expmap back"):
            return m.expmap(x, self._with_time(x, inputs[1]))[..., self.skip :]
        y = self._full(inputs[1])
        if operation == "dist":
            return m.dist(x, y)
        if operation == "logmap":
            return m.logmap(x, y)[..., self.skip :]
        return m.transp(x, y, self._with_time(x, inputs[2]))[..., self.skip :]

    def inputs(self, norm: float, n: int) -> dict[str, tuple[Tensor, ...]]:
        """Arguments of every operation, rounded to the dtype: points at ``norm`` and 0.7 norm."""
        generator = torch.Generator().manual_seed(n)
        v, w, z = torch.randn(3, n, generator=generator, dtype=torch.float64)
        v, w, z = (
            t / t.norm() * length for t, length in zip((v, w, z), (norm, 0.7 * norm, norm), strict=True)
        )
        x, y = (self.manifold.expmap0(t).to(self.dtype) for t in (v, w))
        there = self.manifold.logmap(x.double(), y.double())
        u = there.to(self.dtype)[..., self.skip :]
        free, x, y = v.to(self.dtype), x[..., self.skip :], y[..., self.skip :]
        full = self._full(x.double())
        side = self.manifold.proju(full, self._with_time(full, _padded(z, x)))
        side = (side * norm / self.manifold.norm(full, side).clamp_min(1e-300)).to(self.dtype)[
            ..., self.skip :
        ]
        return {
            "expmap0": (free,),
            "logmap0": (x,),
            "dist": (x, y),
            "logmap": (x, y),
            "expmap": (x, side),
            "expmap back": (x, u),
            "transp": (x, y, side),
        }

    def fits(self, operation: str, want: Exact) -> bool:
        """Whether the exact result can be stored in the dtype: neither overflowing nor beyond the edge."""
        # Lorentz coordinates are held to what float64 can square: 354 R.
        largest = longest(self.dtype) if self.skip else torch.finfo(self.dtype).max
        if not all(abs(value) < largest / 8 for value in want):
            return False
        if not (isinstance(self.manifold, Conformal) and operation.startswith("expmap")):
            return True
        return bool(mp.sqrt(mp.fdot(want, want)) <= self.manifold.max_coord_radius(self.dtype).item())


def _padded(z: Tensor, like: Tensor) -> Tensor:
    return torch.cat([z.new_zeros(like.shape[-1] - z.shape[-1]), z])


def _error(act: Callable[[], Tensor], want: Exact) -> float:
    try:
        return relative_error(act().double().tolist(), want)
    except (RuntimeError, ValueError, KeyError):  # geoopt refuses some dtypes.
        return math.nan


def measure(name: str, kappa: float, dtype: torch.dtype, norm: float, n: int) -> Iterator[ErrorRow]:
    """Rows of one cell of the grid, one per operation whose exact result fits the dtype."""
    bench, reach = Bench(name, kappa, dtype), norm * abs(kappa) ** 0.5
    mp.dps = DIGITS + int(3 * reach)
    for operation, tensors in bench.inputs(norm, n).items():
        if not all(bool(t.isfinite().all()) for t in tensors):
            continue
        act, given = (
            getattr(bench.oracle, operation.split()[0]),
            [exact(t.double().tolist()) for t in tensors],
        )
        want = act(*given)
        if not bench.fits(operation, want):
            continue
        ours = _error(lambda o=operation, t=tensors: bench.ours(o, *t), want)  # type: ignore[misc]
        rival = _error(lambda o=operation, t=tensors: bench.rival[o.split()[0]](*t), want)  # type: ignore[misc]
        label = str(dtype).removeprefix("torch.")
        magnified = condition(act, given, want) if dtype == torch.float64 else 1.0
        yield ErrorRow(name, operation, label, kappa, n, norm, reach, magnified, ours, rival)


def _reachable(name: str, kappa: float, dtype: torch.dtype, norm: float) -> bool:
    manifold = build_manifold({"name": name, "curvature": kappa})
    return norm <= 0.95 * manifold.max_radius(dtype).item()


def run_grid(grid: Grid, geometries: tuple[str, ...] = tuple(ORACLES)) -> list[ErrorRow]:
    """Every reachable cell of the grid."""
    rows: list[ErrorRow] = []
    for name, size, dtype, n in itertools.product(geometries, grid.kappas, DTYPES, grid.dims):
        signs = {"sphere": (1,), "stereographic": (1, -1)}.get(name, (-1,))
        for sign, norm in itertools.product(
            signs, sorted({*grid.norms, *(r / size**0.5 for r in (0.3, 1.0, 3.0, 5.0))})
        ):
            if norm <= max(grid.norms) / min(1.0, size**0.5) and _reachable(name, sign * size, dtype, norm):
                rows += measure(name, sign * size, dtype, norm, n)
    return rows


def run_numerics(out: Path, full: bool = False) -> int:
    """Measure; write ``accuracy.md``, ``accuracy.csv`` and plots under ``out``; 0 if all is met.

    Args:
        out: folder, made if need be.
        full: the whole grid of the issue instead of the quick one.
    """
    grid = Grid() if full else QUICK
    rows, gradients = run_grid(grid), measure_gradients()
    return numerics_report.write(rows, gradients, Path(out), f"Grid: {grid}.")


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench numerics [--out docs] [--full]``."""
    parser = PlainFlags(prog="manifold-lora bench numerics", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--full", action="store_true", help="norms 0..80, dimensions 2, 64, 4096")
    given = parser.parse_args(argv)
    return run_numerics(given.out, given.full)


if __name__ == "__main__":
    sys.exit(main())
