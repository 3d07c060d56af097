"""Gradients where libraries lose them: at zero, between close points, at the edge, by the curvature."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from mpmath import mp, mpf
from torch import Tensor

from manifold_lora.experiments.bench.numerics.oracle import (
    DIGITS,
    ORACLES,
    Exact,
    dot,
    exact,
    mix,
    relative_error,
    times,
)
from manifold_lora.experiments.bench.numerics.rivals import RIVALS, Operation
from manifold_lora.manifolds import Curvature, Manifold, build_manifold
from manifold_lora.manifolds.registry import MANIFOLDS

# A gradient is wrong beyond this: far above rounding, far below the slips of the literature.
WRONG = {torch.float64: 1e-9, torch.float32: 1e-4}
N = 3


@dataclass(frozen=True)
class GradientRow:
    """Relative error of one gradient, ours and geoopt's (nan where it has no such operation)."""

    geometry: str
    check: str
    place: str
    dtype: str
    ours: float
    geoopt: float
    limit: float


def _directions(dtype: torch.dtype, *lengths: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    free = torch.randn(len(lengths), N, generator=generator, dtype=torch.float64)
    return [(v / v.norm() * size).to(dtype) for v, size in zip(free, lengths, strict=True)]


def _pull(act: Callable[[Tensor], Tensor], start: Tensor, weight: Tensor | None = None) -> list[float]:
    start = start.clone().requires_grad_()
    value = act(start)
    (grad,) = torch.autograd.grad(value, start, torch.ones_like(value) if weight is None else weight)
    return [float(g) for g in grad.double().flatten()]


def _half_square(dist: Operation, y: Tensor, x: Tensor) -> Tensor:
    return dist(x, y).square() / 2


class Gradients:
    """All gradient checks of one geometry at one dtype."""

    def __init__(self, name: str, kappa: float, dtype: torch.dtype) -> None:
        self.name, self.kappa, self.dtype = name, kappa, dtype
        self.m: Manifold = build_manifold({"name": name, "curvature": kappa})
        self.rival, self.oracle = RIVALS[name](kappa, dtype), ORACLES[name](kappa)
        self.unit = abs(kappa) ** -0.5
        self.hyperboloid = name == "lorentz"

    def row(
        self, check: str, place: str, ours: list[float], rival: list[float] | None, want: Exact
    ) -> GradientRow:
        """Both errors against the exact gradient."""
        label = str(self.dtype).removeprefix("torch.")
        theirs = math.nan if rival is None else relative_error(rival, want)
        return GradientRow(
            self.name, check, place, label, relative_error(ours, want), theirs, WRONG[self.dtype]
        )

    def _coords(self, v: Tensor) -> Tensor:
        """The oracle's coordinates of expmap0(v), rounded to the dtype."""
        return self.m.expmap0(v.double()).to(self.dtype)[..., 1 if self.hyperboloid else 0 :]

    def _dist(self, x: Tensor, y: Tensor) -> Tensor:
        return self.m.dist(self.m.lift(x), self.m.lift(y)) if self.hyperboloid else self.m.dist(x, y)

    def round_trips(self) -> Iterator[GradientRow]:
        """The derivative of logmap0 after expmap0 is the identity."""
        for size in (0.0, 1e-8, 1e-4, 1.0, 5.0 if self.kappa < 0 else 3.0):
            v, weight = _directions(self.dtype, size * self.unit, 1.0)
            ours = _pull(lambda t: self.m.logmap0(self.m.expmap0(t)), v, weight)
            theirs = _pull(lambda t: self.rival["logmap0"](self.rival["expmap0"](t)), v, weight)
            yield self.row("logmap0 of expmap0", f"{size:g} R", ours, theirs, exact(weight.double().tolist()))

    @staticmethod
    def _zeroed(log: Operation, lift: Operation, h: Tensor, b: Tensor) -> Tensor:
        return log(lift(b @ h))

    def zero_initialised(self) -> Iterator[GradientRow]:
        """The gradient of B in logmap0(lift(B h)) at B = 0 is g h^T, h as small as an adapter's."""
        for size in (1.0, 1e-6):
            g, h = _directions(self.dtype, 1.0, size)
            slope = 2.0 if self.name in ("poincare", "stereographic") else 1.0
            want = [slope * mpf(p) * mpf(q) for p in g.double().tolist() for q in h.double().tolist()]
            zero = torch.zeros(N, N, dtype=self.dtype)
            ours = _pull(partial(self._zeroed, self.m.logmap0, self.m.lift, h), zero, g)
            theirs = (
                None
                if self.name == "sphere"
                else _pull(partial(self._zeroed, self.rival["logmap0"], lambda z: z, h), zero, g)
            )
            yield self.row("B at B = 0", f"|h| = {size:g}", ours, theirs, want)

    def distances(self) -> Iterator[GradientRow]:
        """The gradient of dist^2/2 is -logmap, lowered by the metric."""
        far = {-1: 14.0 if self.dtype == torch.float32 else 16.0, 1: math.pi - 1e-6}[
            1 if self.kappa > 0 else -1
        ]
        for place, radius, step in (
            ("x = y", 1.0, 0.0), ("from 0", 0.0, 1.0), ("1e-8 apart at 0", 1e-8, 1e-8),
            ("1e-4 apart at 0", 1e-4, 1e-4),
            ("1e-4 apart", 1.0, 1e-4), ("1 apart", 1.0, 1.0), ("to the far end", far, 0.0),
        ):  # fmt: skip
            v, w = _directions(self.dtype, radius * self.unit, step * self.unit)
            x, y = self._coords(v), self._coords(v + w)
            if place == "to the far end":
                x, y = self._coords(torch.zeros_like(v)), x
            want = self._lowered(exact(x.double().tolist()), exact(y.double().tolist()))
            ours = _pull(partial(_half_square, self._dist, y), x)
            theirs = _pull(partial(_half_square, self.rival["dist"], y), x)
            yield self.row("dist^2/2", place, self._tangential(x, ours), self._tangential(x, theirs), want)

    def _tangential(self, x: Tensor, g: list[float]) -> list[float]:
        if self.name != "sphere":
            return g
        given = torch.tensor(g, dtype=torch.float64)
        return [float(value) for value in self.m.proju(x.double(), given)]

    def _lowered(self, x: Exact, y: Exact) -> Exact:
        if x == y:
            return [mpf(0)] * len(x)
        log = self.oracle.logmap(x, y)
        if self.hyperboloid:
            return mix(mpf(-1), log, dot(x, log) / self.oracle.time(x) ** 2, x)
        conformal = mpf(1) if self.name == "sphere" else 2 / (1 - self.oracle.k * dot(x, x))
        return times(-(conformal**2), log)

    def by_curvature(self) -> Iterator[GradientRow]:
        """d dist/d kappa, the coordinates held."""
        for place, size in (("1e-4 R", 1e-4), ("0.3 R", 0.3), ("1 R", 1.0)):
            if self.name == "sphere":  # Its coordinates cannot be held: they lie on the sphere that changes.
                return
            v, w = _directions(self.dtype, size * self.unit, 0.7 * size * self.unit)
            x, y = self._coords(v), self._coords(w)
            learned = MANIFOLDS[self.name](Curvature(self.kappa, "learned")).to(self.dtype)
            make, points = type(self.oracle), [exact(t.double().tolist()) for t in (x, y)]
            slope = mp.diff(lambda k, make=make, points=points: make(k).dist(*points)[0], mpf(self.kappa))
            lift = learned.lift
            value = learned.dist(lift(x), lift(y))
            (grad,) = torch.autograd.grad(value.sum(), learned.curvature.raw)
            yield self.row("dist by kappa", place, [float(grad) / self.kappa], None, [slope])


def measure_gradients() -> list[GradientRow]:
    """Every check on every geometry, float64 and float32, at a curvature that is none of 0, 1, -1."""
    mp.dps = DIGITS + 40
    rows: list[GradientRow] = []
    for name, kappa in (("lorentz", -0.7), ("poincare", -0.7), ("sphere", 0.7), ("stereographic", 0.7)):
        for dtype in WRONG:
            checks = Gradients(name, kappa, dtype)
            for rows_of in (
                checks.round_trips,
                checks.zero_initialised,
                checks.distances,
                checks.by_curvature,
            ):
                rows += list(rows_of())
    return rows
