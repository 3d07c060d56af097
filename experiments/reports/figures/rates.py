"""Validation accuracy by learning rate, group by group."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from manifold_lora.experiments.reports.figures.canvas import WIDTH, panels
from manifold_lora.experiments.reports.figures.margin_labels import Named, height_for, name_in_margin
from manifold_lora.experiments.reports.figures.style import COLOURS, colour_and_marker, dashes
from manifold_lora.experiments.reports.groups import GROUPS
from manifold_lora.experiments.reports.row import ArmRow


def rates(rows: Sequence[ArmRow]) -> Figure | None:
    """Validation accuracy by learning rate: mean of the seeds; what the rate was chosen by."""
    if max(len(row.rates) for row in rows) < 2:
        return None
    groups = _groups(rows)
    height = height_for(1 + max(len(members) for members in groups.values()), 2.6)
    figure, axes = panels(len(groups), WIDTH, height)
    _scale(axes, rows)
    for axis, (title, members) in zip(axes, groups.items(), strict=True):
        axis.set_title(title, fontsize=9, loc="left")
        named = [_line(axis, rows[0], COLOURS["baseline"], "", "--")]
        for index, row in enumerate(members):
            named.append(_line(axis, row, *colour_and_marker(index), dashes(index)))
        name_in_margin(axis, named, height)
    axes[-1].set_xlabel("learning rate (ring: chosen)")
    return figure


def _groups(rows: Sequence[ArmRow]) -> Mapping[str, Sequence[ArmRow]]:
    """The title of a panel -> its arms; the baseline is in every one and has none of its own."""
    groups = {title: [row for row in rows[1:] if row.group == key] for key, title in GROUPS.items()}
    found = {title: members for title, members in groups.items() if members}
    return found or {GROUPS["baseline"]: []}


def _scale(axes: Sequence[Axes], rows: Sequence[ArmRow]) -> None:
    """The same axes for all panels."""
    every = [rate for row in rows for rate in row.rates]
    tried = sorted({rate.value for rate in every})
    means = [100 * rate.validation for rate in every]
    room = 0.05 * (max(means) - min(means)) or 1.0
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks(tried, [_short(value) for value in tried])
        axis.set_ylim(min(means) - room, max(means) + room)
        axis.set_ylabel("validation accuracy, %")


def _short(rate: float) -> str:
    """A rate as 3e−4, so that seven of them stand side by side."""
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")


def _line(axis: Axes, row: ArmRow, shade: str, mark: str, line: str) -> Named:
    values = [rate.value for rate in row.rates]
    means = [100 * rate.validation for rate in row.rates]
    axis.plot(values, means, f"{mark}{line}", ms=3, lw=1.1, color=shade)
    axis.plot(row.chosen.value, 100 * row.chosen.validation, "o", ms=7, mfc="none", color=shade)
    return Named(values[-1], means[-1], row.label, shade)
