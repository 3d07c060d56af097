"""Panels of arms, and a figure inside a page that has a dark mode."""

import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lora.experiments.reports.figures.style import COLOURS, INK
from manifold_lora.experiments.reports.row import ArmRow

# Inches: at four fifths, the least it is shown at, a phone of 400 px has it whole.
WIDTH = 4.8


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels below each other, each ``width`` x ``height`` inches."""
    figure = Figure(figsize=(width, height * count))
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def colour(row: ArmRow) -> str:
    """The colour of an arm's group."""
    return COLOURS[row.group]


def name_rows(axis: Axes, rows: Sequence[ArmRow]) -> None:
    """Arms down the left side, first on top, their groups by colour."""
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(colour(row))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def inline(text: str, name: str, title: str) -> str:
    """An SVG document as an element of a page: no declarations, ids of its own, the page's ink and ground."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r"fill: (#ffffff|white)\b", "fill: none", body)
    body = body.replace(INK, "currentColor")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    width = float(size[1]) * 4 / 3 if size else 600.0
    # At four fifths letters of 8 pt can still be read; where the page is narrower, the box scrolls.
    limits = f"max-width:{width:.0f}px;min-width:{0.8 * width:.0f}px"
    head = f'<svg role="img" aria-label="{title}" style="{limits}"'
    return re.sub(r'^<svg(.*?) width="[^"]*"', rf"{head}\1", re.sub(r' height="[\d.]+pt"', "", body, count=1))
