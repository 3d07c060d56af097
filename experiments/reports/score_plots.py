"""Accuracy by arm, difference to the baseline, accuracy by learning rate and by cost."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from manifold_lora.experiments.comparison import Comparison, Row
from manifold_lora.experiments.reports.canvas import INK, beside_legend, colour, name_rows, panels, told_apart

_MARKS = {"baseline": "o", "gain": "s", "tangent": "D"}
_OTHERS = {"baseline": "to the baseline", "gain": "to gain-matched LoRA", "tangent": "to tangent"}


def scores(rows: Sequence[Row]) -> Figure:
    """A panel per test set: mean, 95 % interval, and every seed as a dot."""
    tests = list(rows[0].scores)
    figure, axes = panels(len(tests), 4.6, 0.27 * len(rows) + 0.9)
    for axis, test in zip(axes, tests, strict=True):
        for place, row in enumerate(rows):
            _score(axis, place, row, test)
        name_rows(axis, rows)
        axis.set_xlabel(f"{test}: accuracy, %")
        axis.grid(axis="x", lw=0.3, alpha=0.6)
    return figure


def _score(axis: Axes, place: int, row: Row, test: str) -> None:
    score = row.scores[test]
    seeds = [100 * record["evaluation"][test]["accuracy"] for record in row.chosen.records.values()]
    low, high = (100 * score.low, 100 * score.high)
    axis.plot([low, high], [place, place], color=colour(row), lw=2.2, alpha=0.45, solid_capstyle="round")
    axis.plot(seeds, [place] * len(seeds), "o", ms=2.6, color=colour(row), alpha=0.7, mew=0)
    axis.plot(100 * score.mean, place, "|", ms=11, mew=2, color=INK)


def differences(rows: Sequence[Row]) -> Figure | None:
    """Differences in points with 95 % intervals: to the baseline; of geometries to their controls too."""
    compared = [row for row in rows if row.comparisons]
    if not compared:
        return None
    tests = list(rows[0].scores)
    figure, axes = panels(len(tests), 4.6, 0.36 * len(compared) + 1.2)
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


def rates(rows: Sequence[Row]) -> Figure | None:
    """Validation accuracy by learning rate: mean of the seeds; what the rate was chosen by."""
    if max(len(row.rates) for row in rows) < 2:
        return None
    figure, (axis,) = panels(1, 6.4, beside_legend(len(rows), 3.1))
    for index, row in enumerate(rows):
        values = [rate.value for rate in row.rates]
        means = [100 * rate.validation for rate in row.rates]
        style = {"baseline": ":", "control": "--", "geometry": "-"}[row.group]
        shade, mark = told_apart(index)
        axis.plot(values, means, f"{mark}{style}", ms=3, lw=1.1, color=shade, label=row.label)
        axis.plot(row.chosen.value, 100 * row.chosen.validation, "o", ms=7, mfc="none", color=shade)
    tried = sorted({rate.value for row in rows for rate in row.rates})
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(tried, [f"{value:g}" for value in tried])
    axis.set_xlabel("learning rate (ring: chosen)")
    axis.set_ylabel("validation accuracy, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def costs(rows: Sequence[Row]) -> Figure | None:
    """Accuracy by training time and by inference time."""
    if len(rows) < 2:
        return None
    test = next(iter(rows[0].scores))
    figure, axes = panels(2, 4.2, beside_legend(len(rows), 3.2))
    for axis, key, factor, name in (
        (axes[0], "train_seconds", 1.0, "training, s"),
        (axes[1], "seconds_per_item", 1000.0, "inference, ms per item"),
    ):
        for index, row in enumerate(rows):
            score, cost = row.scores[test], factor * row.costs[key]
            shade, mark = told_apart(index)
            ends = ([100 * (score.mean - score.low)], [100 * (score.high - score.mean)])
            axis.errorbar(cost, 100 * score.mean, yerr=ends, color=shade, lw=0.7, alpha=0.6)
            axis.plot(cost, 100 * score.mean, mark, ms=5, color=shade, label=row.label)
        axis.set_xlabel(name)
        axis.set_ylabel(f"{test}: accuracy, %")
        axis.margins(x=0.1)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
