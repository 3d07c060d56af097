"""The figure of an ablation: accuracy by arm with its interval, and accuracy by learning rate."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lora.experiments.atomic import write_bytes
from manifold_lora.experiments.comparison import Row


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG: a panel per test set (mean, 95 % interval, seeds as dots), one of validation by rate."""
    tests = list(rows[0].scores)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.0 * (len(tests) + 1) + 1.2, 0.3 * len(rows) + 1.8), layout="constrained")
        axes = figure.subplots(1, len(tests) + 1, squeeze=False)[0]
        for axis, name in zip(axes, tests, strict=False):
            _draw_scores(axis, rows, name)
        _draw_rates(axes[-1], rows)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    write_bytes(path, buffer.getvalue())


def _draw_scores(axis: Axes, rows: Sequence[Row], name: str) -> None:
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        score = row.scores[name]
        seeds = [100 * record["evaluation"][name]["accuracy"] for record in row.chosen.records.values()]
        axis.plot([100 * score.low, 100 * score.high], [place, place], color="0.6", lw=1.5, zorder=1)
        axis.plot(seeds, [place] * len(seeds), "o", ms=3, color="tab:blue", alpha=0.5, zorder=2)
        axis.plot(100 * score.mean, place, "|", ms=12, mew=2, color="black", zorder=3)
    axis.set_yticks(list(places), [row.label for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel(f"{name}: accuracy, %")


def _draw_rates(axis: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        values = [rate.value for rate in row.rates]
        means = [100 * rate.validation for rate in row.rates]
        axis.plot(values, means, "o-", ms=3, lw=1, label=row.label)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.margins(x=0.2)
    axis.set_ylabel("validation accuracy, % (mean of seeds)")
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
