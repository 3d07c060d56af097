"""Accuracy by arm, and difference to the baseline."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lora.experiments.reports.figures.canvas import WIDTH, colour, name_rows, panels
from manifold_lora.experiments.reports.figures.style import INK
from manifold_lora.experiments.reports.row import ArmRow, Comparison

_MARKS = {"baseline": "o", "gain": "s", "tangent": "D"}
_OTHERS = {"baseline": "to the baseline", "gain": "to gain-matched LoRA", "tangent": "to tangent"}


def scores(rows: Sequence[ArmRow]) -> Figure:
    """A panel per test set: mean, 95 % interval, and every seed as a dot."""
    tests = list(rows[0].scores)
    figure, axes = panels(len(tests), WIDTH, 0.27 * len(rows) + 0.9)
    for axis, test in zip(axes, tests, strict=True):
        for place, row in enumerate(rows):
            _score(axis, place, row, test)
        name_rows(axis, rows)
        axis.set_xlabel(f"{test}: accuracy, %")
        axis.grid(axis="x", lw=0.3, alpha=0.6)
    return figure


def _score(axis: Axes, place: int, row: ArmRow, test: str) -> None:
    score = row.scores[test]
    seeds = [100 * record["evaluation"][test]["accuracy"] for record in row.chosen.records.values()]
    low, high = (100 * score.low, 100 * score.high)
    axis.plot([low, high], [place, place], color=colour(row), lw=2.2, alpha=0.45, solid_capstyle="round")
    axis.plot(seeds, [place] * len(seeds), "o", ms=2.6, color=colour(row), alpha=0.7, mew=0)
    axis.plot(100 * score.mean, place, "|", ms=11, mew=2, color=INK)


def differences(rows: Sequence[ArmRow]) -> Figure | None:
    """Differences in points with 95 % intervals: to the baseline; of geometries to their controls too."""
    compared = [row for row in rows if row.comparisons]
    if not compared:
        return None
    tests = list(rows[0].scores)
    figure, axes = panels(len(tests), WIDTH, 0.36 * len(compared) + 1.2)
    for axis, test in zip(axes, tests, strict=True):
        axis.axvline(0, color=INK, lw=0.7)
        for place, row in enumerate(compared):
            shown = [item for item in row.comparisons if item.test == test and item.role in _MARKS]
            for index, item in enumerate(shown):
                _difference(axis, place + 0.22 * (index - (len(shown) - 1) / 2), item, colour(row))
        name_rows(axis, compared)
        axis.set_xlabel(f"{test}: difference, points")
        axis.grid(axis="x", lw=0.3, alpha=0.6)
    for role, mark in _MARKS.items():
        if any(item.role == role for row in compared for item in row.comparisons):
            axes[0].plot([], [], mark, ms=4, color=INK, label=_OTHERS[role])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _difference(axis: Axes, place: float, item: Comparison, shade: str) -> None:
    gap = item.difference
    axis.plot([100 * gap.low, 100 * gap.high], [place, place], color=shade, lw=1.6, alpha=0.5)
    filled = shade if item.is_significant else "none"
    axis.plot(100 * gap.mean, place, _MARKS[item.role], ms=4.5, mfc=filled, mec=shade, mew=1.1)
