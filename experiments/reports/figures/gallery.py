"""The figures of a report: those that its data has something to say in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from manifold_lora.experiments.reports.figures.costs import costs
from manifold_lora.experiments.reports.figures.curvature import curvature, gains, kappas
from manifold_lora.experiments.reports.figures.rates import rates
from manifold_lora.experiments.reports.figures.scores import differences, scores
from manifold_lora.experiments.reports.figures.style import styled, svg
from manifold_lora.experiments.reports.row import Row

_DRAWN: tuple[tuple[str, Callable[[Sequence[Row]], Figure | None], str], ...] = (
    (
        "accuracy",
        scores,
        "Accuracy by arm on test items: mean (bar), 95 % interval over seeds and items, seeds (dots).",
    ),
    (
        "differences",
        differences,
        "Paired differences with 95 % intervals, same seeds and items; filled: significant at 5 % after "
        "Benjamini-Hochberg, never by one seed.",
    ),
    (
        "curvature",
        curvature,
        "Accuracy against curvature, each arm at its chosen rate, with 95 % intervals; band: the baseline.",
    ),
    (
        "learning-rate",
        rates,
        "Validation accuracy against learning rate, mean of the seeds, by group; ring: chosen, dashed: the "
        "baseline. Rates are chosen here; test items have no part in it.",
    ),
    ("kappa", kappas, "Curvature at the end of training by layer; a dot per adapted module and seed."),
    (
        "gain",
        gains,
        "Distribution of the gain c over layers and seeds: how much longer the curved update is than LoRA's.",
    ),
    (
        "cost",
        costs,
        "Cost against accuracy: medians over seeds, 95 % intervals of the accuracy. Of many arms are "
        "named the baseline, the dearest, the least accurate and those that no other beats in both.",
    ),
)


@dataclass(frozen=True)
class Picture:
    """A figure as a standalone SVG, its file name without ending, and its caption."""

    name: str
    caption: str
    svg: str


def gallery(rows: Sequence[Row]) -> Iterator[Picture]:
    """Draw what the data has."""
    for name, draw, caption in _DRAWN:
        with styled():
            figure = draw(rows)
            if figure is not None:
                yield Picture(name, caption, svg(figure, name))
