"""The one style of all figures: letters, lines, and colours that mean one thing each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

# Okabe and Ito's, which differ under every common colour blindness: the group of an arm, nothing else.
COLOURS = {"baseline": "#737373", "control": "#d98200", "geometry": "#0072b2"}
# For what has no group: none of these is near a colour above.
CYCLE = ("#009e73", "#b5367a", "#7b5cc4", "#8a5a2b", "#56b4e9", "#8f9a27", "#9b2226", "#0f5c5c")
MARKS = "osD^v"
LINES = ("-", "--", "-.", ":")
INK = "#1b1f24"
FAINT = "#b8bec6"

# Typed by matplotlib with every key it knows.
_STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
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


def colour_and_marker(index: int) -> tuple[str, str]:
    """Colour and marker of one of many series; no pair comes twice among the first forty."""
    return CYCLE[index % len(CYCLE)], MARKS[index // len(CYCLE) % len(MARKS)]


def dashes(index: int) -> str:
    """The line of one of many series: another one where colours begin anew."""
    return LINES[index // len(CYCLE) % len(LINES)]


def scale_by_range(axis: Axes, values: Sequence[float], ratio: float) -> None:
    """A logarithmic x axis where values differ by more than this ratio; few decades have ticks between."""
    least, largest = min(values), max(values)
    if not largest > ratio * least > 0:
        return
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(plain)
    between = "25" if largest < 50 * least else ""
    axis.xaxis.set_minor_formatter(lambda value, _: plain(value) if f"{value:.0e}"[0] in between else "")


def plain(value: float, _: object = None) -> str:
    """A number on an axis, short and with a minus sign that is one."""
    return f"{value:g}".replace("-", "−", 1) if value < 0 else f"{value:g}"


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG; equal figures give equal text."""
    buffer = BytesIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    buffer = BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
