"""Accuracy by training time and by inference time."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lora.experiments.reports.costs import TABLE, Cost
from manifold_lora.experiments.reports.figures.canvas import WIDTH, colour, panels
from manifold_lora.experiments.reports.figures.margin_labels import Named, height_for, name_in_margin
from manifold_lora.experiments.reports.figures.style import COLOURS, scale_by_range
from manifold_lora.experiments.reports.groups import GROUPS, Group
from manifold_lora.experiments.reports.row import ArmRow

_MARKS: dict[Group, str] = {"baseline": "o", "control": "s", "geometry": "D"}
_AXES = {"train_seconds": "training, s", "seconds_per_item": "inference, ms per item"}
# Arms that can all be named.
_FEW = 12


def costs(rows: Sequence[ArmRow]) -> Figure | None:
    """Accuracy by cost, groups by colour and mark; the arms that bound what can be had are named."""
    if len(rows) < 2:
        return None
    test = next(iter(rows[0].scores))
    shown = [cost for cost in TABLE if cost.key in _AXES]
    named = [_worth_naming(rows, cost, test) for cost in shown]
    height = height_for(max(map(len, named)), 3.2)
    figure, axes = panels(len(shown), WIDTH, height)
    for axis, cost, chosen in zip(axes, shown, named, strict=True):
        for row in rows:
            _point(axis, row, cost, test)
        axis.set_xlabel(_AXES[cost.key])
        axis.set_ylabel(f"{test}: accuracy, %")
        axis.margins(x=0.08)
        points = [Named(cost.of(row), 100 * row.scores[test].mean, row.label, colour(row)) for row in chosen]
        scale_by_range(axis, [cost.of(row) for row in rows], 4)
        name_in_margin(axis, points, height)
    for group, mark in _MARKS.items():
        axes[0].plot([], [], mark, ms=4, color=COLOURS[group], label=GROUPS[group])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(_MARKS))
    return figure


def _point(axis: Axes, row: ArmRow, cost: Cost, test: str) -> None:
    score = row.scores[test]
    ends = [100 * score.low, 100 * score.high]
    axis.plot([cost.of(row)] * 2, ends, color=colour(row), lw=0.7, alpha=0.35)
    axis.plot(cost.of(row), 100 * score.mean, _MARKS[row.group], ms=4, mew=0, alpha=0.8, color=colour(row))


def _worth_naming(rows: Sequence[ArmRow], cost: Cost, test: str) -> list[ArmRow]:
    """The baseline, the dearest, the least accurate, and the arms that no other beats in both."""
    if len(rows) <= _FEW:
        return list(rows)
    dearest = max(rows, key=cost.of)
    worst = min(rows, key=lambda row: row.scores[test].mean)
    return [row for row in rows if row in (rows[0], dearest, worst) or _is_best(row, rows, cost, test)]


def _is_best(row: ArmRow, rows: Sequence[ArmRow], cost: Cost, test: str) -> bool:
    return not any(
        other.scores[test].mean > row.scores[test].mean and cost.of(other) <= cost.of(row) for other in rows
    )
