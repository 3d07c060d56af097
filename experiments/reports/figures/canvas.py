"""How figures look, and how one is written: alone as SVG, or inline in a page that has a dark mode."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lora.experiments.reports.row import Row

# Okabe and Ito's colours, told apart under every common colour blindness.
COLOURS = {"baseline": "#737373", "control": "#d98200", "geometry": "#0072b2"}
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7b5cc4", "#737373")
MARKS = "osD^v"
LINES = ("-", "--", "-.", ":")
INK = "#1b1f24"
# Inches: at four fifths, the least it is shown at, a phone of 400 px has it whole.
WIDTH = 4.8

# Typed by matplotlib with every key it knows.
_STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
}


@contextmanager
def styled() -> Iterator[None]:
    """Figures drawn in here look alike."""
    with mpl.rc_context(_STYLE):
        yield


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels below each other, each ``width`` x ``height`` inches."""
    figure = Figure(figsize=(width, height * count))
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def colour(row: Row) -> str:
    """The colour of an arm's group."""
    return COLOURS[row.group]


def told_apart(index: int) -> tuple[str, str]:
    """Colour and marker of one of many arms; no pair comes twice among the first forty."""
    return CYCLE[index % len(CYCLE)], MARKS[index // len(CYCLE) % len(MARKS)]


def dashes(index: int) -> str:
    """The line of one of many arms: another one where colours begin anew."""
    return LINES[index // len(CYCLE) % len(LINES)]


def name_rows(axis: Axes, rows: Sequence[Row]) -> None:
    """Arms down the left side, first on top, their groups by colour."""
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_color(colour(row))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG; equal figures give equal text."""
    buffer = BytesIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


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
