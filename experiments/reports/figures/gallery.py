"""The figures of a report: those that its data has something to say in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from manifold_lora.experiments.reports.figures.registry import FIGURES
from manifold_lora.experiments.reports.figures.style import styled, svg
from manifold_lora.experiments.reports.row import ArmRow


@dataclass(frozen=True)
class Picture:
    """A figure as a standalone SVG, its file name without ending, and its caption."""

    name: str
    caption: str
    svg: str


def gallery(rows: Sequence[ArmRow]) -> Iterator[Picture]:
    """Draw what the data has."""
    for name in sorted(FIGURES, key=lambda name: FIGURES.metadata(name).get("place", math.inf)):
        with styled():
            figure = FIGURES[FIGURES.check(name)](rows)
            if figure is not None:
                yield Picture(name, FIGURES.metadata(name).get("caption", ""), svg(figure, name))
