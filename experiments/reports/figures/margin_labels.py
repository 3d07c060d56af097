"""Names beside an axis, each led to its point: a legend of thirty marks cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

# Inches: a line of text, and what of a panel's height is not the axis.
LINE, AROUND = 0.165, 0.6


@dataclass(frozen=True)
class Named:
    """A point in data coordinates, its name and the colour of both."""

    x: float
    y: float
    name: str
    shade: str


def height_for(names: int, least: float) -> float:
    """The height, in inches, of a panel that has so many names in its margin."""
    return max(least, AROUND + LINE * names)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The places nearest to the wanted, ascending ones (least squares) that lie a gap apart."""
    shifted = [place - index * gap for index, place in enumerate(wanted)]
    return [float(place) + index * gap for index, place in enumerate(isotonic_regression(shifted).x)]


def name_in_margin(axis: Axes, points: Sequence[Named], height: float) -> None:
    """Write the names to the right of an axis in a panel of this height; its y limits hold from here on."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    ordered = sorted(points, key=lambda point: (point.y, point.name))
    wanted = [(point.y - low) / (high - low) for point in ordered]
    for point, place in zip(ordered, spread(wanted, LINE / (height - AROUND)), strict=True):
        axis.annotate(
            point.name,
            (point.x, point.y),
            (1.04, place),
            textcoords="axes fraction",
            color=point.shade,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": point.shade, "lw": 0.5, "alpha": 0.6, "shrinkB": 2},
        )
