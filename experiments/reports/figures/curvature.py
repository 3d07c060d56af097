"""Accuracy by curvature, curvature by layer, and the gain of every layer."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from manifold_lora.experiments.reports.figures.canvas import WIDTH, colour, name_rows, panels
from manifold_lora.experiments.reports.figures.style import (
    COLOURS,
    INK,
    colour_and_marker,
    dashes,
    plain,
    scale_by_range,
)
from manifold_lora.experiments.reports.row import ArmRow
from manifold_lora.experiments.reports.statistics import Estimate

_LAYER = re.compile(r"\.(\d+)\.")


def curvature(rows: Sequence[ArmRow]) -> Figure | None:
    """Accuracy by mean kappa with 95 % intervals, a line for arms that differ in curvature alone."""
    curved = [row for row in rows if row.kappa is not None and row.role in ("geometry", "flat")]
    if len({row.kappa for row in curved}) < 2:
        return None
    tests = list(rows[0].scores)
    families = _families(curved)
    figure, axes = panels(len(tests), WIDTH, 3.2)
    figure.set_figheight(3.2 * len(tests) + 0.18 * (len(families) + 1))
    for axis, test in zip(axes, tests, strict=True):
        base = rows[0].scores[test]
        axis.axhspan(100 * base.low, 100 * base.high, color=COLOURS["baseline"], alpha=0.12, lw=0)
        axis.axhline(100 * base.mean, color=COLOURS["baseline"], lw=1, label=rows[0].label)
        for index, (name, members) in enumerate(families.items()):
            shade, mark = colour_and_marker(index)
            places = [float(row.kappa or 0.0) for row in members]
            axis.errorbar(
                places,
                [100 * row.scores[test].mean for row in members],
                yerr=_ends([row.scores[test] for row in members]),
                fmt=f"{mark}{dashes(index)}",
                ms=4,
                lw=1,
                capsize=2,
                color=shade,
                label=name,
            )
        _scale(axis, [float(row.kappa or 0.0) for row in curved])
        axis.set_ylabel(f"{test}: accuracy, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left")
    return figure


def _scale(axis: Axes, kappas: Sequence[float]) -> None:
    """By factors where curvatures lie far apart; there are some of both signs."""
    sizes = [abs(kappa) for kappa in kappas if abs(kappa) > 0.01]
    axis.set_xlabel("mean kappa (0: flat)")
    axis.margins(x=0.1)
    if sizes and max(sizes) > 6 * min(sizes):
        axis.set_xscale("symlog", linthresh=0.1)
        axis.set_xlabel("mean kappa (0: flat; logarithmic beyond ±0.1)")
        axis.xaxis.set_major_formatter(plain)


def _families(rows: Sequence[ArmRow]) -> dict[str, list[ArmRow]]:
    """Rows by manifold, transform, alpha and further grid values other than the curvature, by kappa."""
    families: dict[str, list[ArmRow]] = defaultdict(list)
    one_alpha = len({row.alpha for row in rows}) == 1
    for row in sorted(rows, key=lambda row: row.kappa or 0.0):
        families[_family(row) + ("" if one_alpha else f", alpha {row.alpha:g}")].append(row)
    return families


def _family(row: ArmRow) -> str:
    adapter = row.adapter
    manifold = adapter.get("manifold", row.arm)
    parts = [manifold.get("name", "product") if isinstance(manifold, Mapping) else str(manifold)]
    parts += [str(adapter[key]) for key in ("transform",) if key in adapter]
    if row.norm_scaling != "learned":
        parts.append(f"norm {row.norm_scaling}")
    extras = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in row.extras if "curvature" not in key]
    extras = [text for text in extras if not text.startswith(("manifold=", "transform=", "norm_scaling="))]
    mode = adapter.get("curvature")
    if isinstance(mode, Mapping) and mode.get("mode", "fixed") != "fixed":
        parts.append(f"{mode['mode']} kappa")
    return " ".join([*parts, *extras])


def _ends(scores: Sequence[Estimate]) -> list[list[float]]:
    return [
        [100 * (score.mean - score.low) for score in scores],
        [100 * (score.high - score.mean) for score in scores],
    ]


def kappas(rows: Sequence[ArmRow]) -> Figure | None:
    """Kappa of every adapted layer by depth, for arms whose curvature was learned or calibrated."""
    moved = [row for row in rows if _moved(row)]
    if not moved:
        return None
    figure, axes = panels(len(moved), WIDTH, 2.4)
    for axis, row in zip(axes, moved, strict=True):
        for index, (kind, points) in enumerate(_by_kind(row, "kappa").items()):
            shade, mark = colour_and_marker(index)
            axis.plot(*zip(*points, strict=True), mark, ms=3.5, alpha=0.75, mew=0, color=shade, label=kind)
        axis.set_title(row.label, fontsize=9, loc="left", color=colour(row))
        axis.set_xlabel("layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylabel("kappa")
    axes[0].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _moved(row: ArmRow) -> bool:
    values = {
        round(value, 6)
        for record in row.chosen.records.values()
        for value in record["geometry"]["kappa"].values()
    }
    setting = row.adapter.get("curvature")
    adaptive = isinstance(setting, Mapping) and setting.get("mode", "fixed") != "fixed"
    return len(values) > 1 and (adaptive or "product" not in _family(row))


def _by_kind(row: ArmRow, key: str) -> dict[str, list[tuple[float, float]]]:
    """Kind of module -> (layer, value) over layers and seeds."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in row.chosen.records.values():
        for name, value in record["geometry"][key].items():
            found = _LAYER.search(name)
            kind = next((part for part in name.split(".") if part.endswith("_proj")), "other")
            points[kind].append((float(found[1]) if found else 0.0, float(value)))
    return points


def gains(rows: Sequence[ArmRow]) -> Figure | None:
    """The gain c of every adapted layer and seed, by arm, with its median; 1 is LoRA's."""
    with_gain = [row for row in rows if _gains(row)]
    if not with_gain:
        return None
    figure, (axis,) = panels(1, WIDTH, 0.3 * len(with_gain) + 0.9)
    axis.axvline(1, color=INK, lw=0.7)
    for place, row in enumerate(with_gain):
        values = sorted(_gains(row))
        # Spread within a band by rank, not by lot, so that points of like gain do not hide each other.
        places = [place + 0.5 * ((index * 0.618034) % 1 - 0.5) for index in range(len(values))]
        axis.plot(values, places, "o", ms=2.4, alpha=0.45, mew=0, color=colour(row))
        axis.plot(values[len(values) // 2], place, "|", ms=13, mew=2, color=INK)
    name_rows(axis, with_gain)
    every = [value for row in with_gain for value in _gains(row)]
    scale_by_range(axis, every, 3)
    axis.set_xlabel("gain c = |Δh| / |BAx| by layer and seed (bar: median)")
    return figure


def _gains(row: ArmRow) -> list[Any]:
    return [value for record in row.chosen.records.values() for value in record["geometry"]["gain"].values()]
