"""The accuracy table, its CSV and one plot per geometry, from the measured rows."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from manifold_lora.experiments.reports.figures.style import CYCLE, FAINT, png, styled

if TYPE_CHECKING:
    from manifold_lora.experiments.bench.numerics.gradients import GradientRow
    from manifold_lora.experiments.bench.numerics.row import ErrorRow

# Acceptance, as stated before anything was built: relative error for |v| <= 5 R.
LIMITS = {"float32": 5e-7, "bfloat16": 4e-3}
BALL = {"float32": 2e-7, "bfloat16": 4e-3}
DTYPES = ("float64", *LIMITS)
NEAR = 5.0 + 1e-6
# In float64 nothing wider helps: as many units in the last place as the inputs' own rounding may cost.
ULPS = 8 * 2.0**-52
# Where the rounding of the inputs leaves no digit, no result is wrong.
NO_DIGIT = 0.1


def limit(row: "ErrorRow") -> float:
    """The acceptance figure of a row; inf where it has none."""
    if row.dtype == "float64":
        allowed = ULPS * row.condition
        return allowed if allowed < NO_DIGIT else math.inf
    limits = BALL if row.geometry in ("poincare", "stereographic") else LIMITS
    return limits[row.dtype] if row.reach <= NEAR else math.inf


@dataclass(frozen=True)
class Line:
    """The worst of many rows: one line of the table.

    ``share`` is the largest part of its acceptance figure that a row took.
    """

    geometry: str
    operation: str
    dtype: str
    ours: float
    geoopt: float
    share: float
    ours_far: float
    geoopt_far: float

    @property
    def met(self) -> bool:
        """Whether every row is within its acceptance figure."""
        return self.share <= 1


def _worst(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return max(known, default=math.nan)


def _worst_of(rows: Sequence["ErrorRow"]) -> tuple[float, float]:
    """Our worst error and that of geoopt."""
    return _worst(row.ours for row in rows), _worst(row.geoopt for row in rows)


def lines(rows: Sequence["ErrorRow"]) -> list[Line]:
    """The worst error per geometry, operation and dtype, for |v| <= 5 R and beyond."""
    groups: dict[tuple[str, str, str], list[ErrorRow]] = {}
    for row in rows:
        groups.setdefault((row.geometry, row.operation, row.dtype), []).append(row)
    made = []
    for key, group in groups.items():
        near, far = [r for r in group if r.reach <= NEAR], [r for r in group if r.reach > NEAR]
        share = max(row.ours / limit(row) for row in group)
        made.append(Line(*key, *_worst_of(near), share, *_worst_of(far)))
    return made


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else "not finite" if math.isinf(value) else f"{value:.1e}"


def table(measured: Sequence[Line]) -> str:
    """Markdown, ours beside geoopt's."""
    head = (
        "| geometry | operation | dtype | ours | geoopt | of accepted | met | ours > 5 R | geoopt > 5 R |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {line.geometry} | {line.operation} | {line.dtype} | {_shown(line.ours)} | {_shown(line.geoopt)} "
        f"| {line.share:.0%} | {'yes' if line.met else 'no'} "
        f"| {_shown(line.ours_far)} | {_shown(line.geoopt_far)} |\n"
        for line in measured
    )


def gradient_table(measured: Sequence["GradientRow"]) -> str:
    """Markdown, one line per check and dtype."""
    head = (
        "| geometry | gradient of | place | dtype | ours | geoopt | right |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {r.geometry} | {r.check} | {r.place} | {r.dtype} | {_shown(r.ours)} | {_shown(r.geoopt)} "
        f"| {'yes' if r.ours <= r.limit else 'no'} |\n"
        for r in measured
    )


def plot(rows: Sequence["ErrorRow"], geometry: str, path: Path) -> None:
    """Worst error over dimensions and curvatures against |v|/R, ours solid, geoopt's dashed."""
    dtypes = [d for d in DTYPES if any(r.dtype == d and r.geometry == geometry for r in rows)]
    with styled():
        path.write_bytes(png(_drawn(rows, geometry, dtypes), dpi=110))


def _drawn(rows: Sequence["ErrorRow"], geometry: str, dtypes: Sequence[str]) -> Figure:
    figure = Figure(figsize=(4.2 * len(dtypes), 3.6))
    axes = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        chosen = [r for r in rows if r.geometry == geometry and r.dtype == dtype]
        operations = dict.fromkeys(r.operation for r in chosen)
        for shade, operation in zip(CYCLE, operations, strict=False):
            for who, style, width in (("geoopt", "--", 0.9), ("ours", "-", 1.6)):
                worst: dict[float, float] = {}
                for r in chosen:
                    error = getattr(r, who)
                    if r.operation == operation and math.isfinite(error):
                        reach = float(f"{max(r.reach, 1e-12):.2g}")
                        worst[reach] = max(worst.get(reach, 0.0), error, 1e-18)
                label = operation if who == "ours" else None
                axis.plot(
                    *zip(*sorted(worst.items()), strict=True), style, lw=width, color=shade, label=label
                )
        axis.set(xscale="log", yscale="log", title=dtype, xlabel="|v|/R", ylim=(1e-18, 1e3))
        axis.axhline(LIMITS.get(dtype, ULPS), color=FAINT, lw=2.5, zorder=0)
    axes[0][0].set_ylabel("relative error")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    figure.suptitle(f"{geometry}: ours solid, geoopt dashed; grey band: what is accepted", fontsize=10)
    return figure


def _csv(path: Path, rows: Sequence["ErrorRow"]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {name: f"{v:.4g}" if isinstance(v, float) else v for name, v in asdict(row).items()}
            )


PREFACE = """# Accuracy

Made by `manifold-lora bench numerics --out docs` on the grid named at the end (`--full`: a larger one); do
not edit.

Every operation is measured against mpmath with 80 digits and more: inputs are the rounded numbers that the
operation received, errors are |got - exact|/|exact| in the coordinates of the model (space coordinates for
Lorentz). "Ours" and "geoopt" are the worst over curvatures, dimensions and norms with |v| <= 5 R,
R = 1/sqrt|kappa|; the last two columns are the worst beyond. A dash: nothing measured, or geoopt refuses
the dtype.

"Of accepted" is the largest part of its allowance that a result took. float32: 5e-7 (the ball: 2e-7),
bfloat16: 4e-3, for |v| <= 5 R. float64: 8 eps times the condition number of the operation at that point,
    wherever that leaves a digit. The condition number is the oracle's: how far the exact result moves when
    every entry of the input moves by one relative unit. Nothing is more accurate without wider arithmetic.

Why it is right: lengths come from `asinh` of half a chord or `atan2`, never from `acosh`; y - x enters every
two-point formula instead of a sum that must cancel; far from the origin vectors are split along and across
the radius; radial factors are power series in the signed square near 0. bfloat16 and float32 are computed in
float64 and rounded once; on the sphere `dist`, `sqdist` and `transp` of float32 in 32 to 2049 coordinates are
sums of float32, the angle by atan2 of what the diagonals y - x and x + y say.

What remains far out: on the hyperboloid a tangent vector at distance r is up to exp(r/R) longer in
coordinates than its length, so its rounding to float64 alone is worth exp(2r/R) times as much in `expmap`
and `transp`."""


def write(rows: Sequence["ErrorRow"], gradients: Sequence["GradientRow"], out: Path, grid: str) -> int:
    """Write accuracy.md, accuracy.csv and the plots under ``out``; 0 if every figure is met, else 1."""
    out.mkdir(parents=True, exist_ok=True)
    measured = lines(rows)
    missed = [line for line in measured if not line.met]
    wrong = [r for r in gradients if not r.ours <= r.limit]
    infinite = [r for r in rows if not math.isfinite(r.ours)]
    geometries = list(dict.fromkeys(row.geometry for row in rows))
    for geometry in geometries:
        plot(rows, geometry, out / f"accuracy-{geometry}.png")
    _csv(out / "accuracy.csv", rows)
    verdict = (
        f"{len(rows)} results and {len(gradients)} gradients measured. "
        f"{len(missed)} of {len(measured)} lines miss their figure, {len(infinite)} results are not finite, "
        f"{len(wrong)} gradients are wrong (geoopt: {sum(g.geoopt > g.limit for g in gradients)} of "
        f"{sum(not math.isnan(g.geoopt) for g in gradients)})."
    )
    plots = "\n".join(f"![{geometry}](accuracy-{geometry}.png)" for geometry in geometries)
    parts = (
        PREFACE,
        verdict,
        "## Values",
        table(measured),
        plots,
        "## Gradients",
        gradient_table(gradients),
        grid,
    )
    (out / "accuracy.md").write_text("\n\n".join(part.rstrip() for part in parts) + "\n")
    print(verdict)
    return int(bool(missed or wrong or infinite))
