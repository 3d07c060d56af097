"""The figures of a geometry report, drawn from its plain record."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from manifold_lora.experiments.reports.figures.style import CYCLE, FAINT, INK, png, styled

Record = dict[str, Any]


def draw_all(record: Record) -> dict[str, bytes]:
    """Name -> PNG for every part that the record holds."""
    wanted: dict[str, tuple[Callable[[Axes, Record], None], Any]] = {
        "frequency": (draw_frequency, record.get("frequency")),
        "norms": (draw_norms, record.get("norms")),
        "delta": (draw_delta, record.get("delta")),
        "layers": (draw_layers, record.get("layers")),
        "hierarchy": (draw_hierarchy, record.get("hierarchy")),
    }
    return {name: _png(draw, part) for name, (draw, part) in wanted.items() if part and "reason" not in part}


def _png(draw: Callable[[Axes, Record], None], part: Record) -> bytes:
    with styled():
        figure = Figure(figsize=(5.2, 3.6))
        draw(figure.subplots(), part)
    return png(figure, dpi=130)


def draw_frequency(axis: Axes, part: Record) -> None:
    """Share of tokens that occur at least so often, log-log, with the fitted tail."""
    counts, tokens = np.unique(part["counts"], return_counts=True)
    share = tokens[::-1].cumsum()[::-1] / tokens.sum()
    axis.loglog(counts, share, ".", ms=3, color=CYCLE[0], label="tokens")
    fit = part.get("fit")
    if fit:
        tail = counts[counts >= fit["xmin"]]
        line = share[counts >= fit["xmin"]][0] * (tail / fit["xmin"]) ** (1.0 - fit["gamma"])
        axis.loglog(tail, line, color=INK, lw=1, label=f"γ = {fit['gamma']:.2f} from {fit['xmin']:.0f}")
    axis.set_xlabel("occurrences")
    axis.set_ylabel("share of tokens with at least as many")
    axis.legend()


def draw_norms(axis: Axes, part: Record) -> None:
    """Mean norm of the embedding by frequency."""
    bins = part["bins"]
    counts = [one["count"] for one in bins]
    axis.errorbar(counts, [one["norm"] for one in bins], [one["error"] for one in bins], fmt="o", ms=4, lw=1)
    axis.set_xscale("log")
    axis.set_xlabel("occurrences")
    axis.set_ylabel("mean norm (bar: standard error)")
    rho = part["spearman"]
    axis.set_title(f"Spearman ρ = {rho['rho']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}]")


def draw_delta(axis: Axes, part: Record) -> None:
    """Relative delta of every set beside its nulls, with the reference spaces as lines."""
    sets = part["sets"]
    places = np.arange(len(sets))
    for shift, name, color in (
        (0.0, "real", INK),
        (0.15, "gaussian", CYCLE[1]),
        (0.3, "shuffled", CYCLE[0]),
    ):
        values = [one["relative"] if name == "real" else one["nulls"][name] for one in sets.values()]
        means = np.array([one["mean"] for one in values])
        spread = np.array([[one["mean"] - one["low"], one["high"] - one["mean"]] for one in values]).T
        axis.errorbar(means, places + shift, xerr=spread, fmt="o", ms=4, lw=1, color=color, label=name)
    for one in part["references"]:
        axis.axvline(one["relative"], color=FAINT, lw=0.8, zorder=0)
        axis.text(
            one["relative"], -0.45, one["name"], rotation=90, fontsize=6, color="0.4", va="bottom", ha="right"
        )
    axis.set_yticks(places + 0.15, list(sets))
    axis.set_ylim(len(sets) - 0.3, -0.5)
    axis.set_xlim(-0.03, 1.03)
    axis.set_xlabel("relative delta, 2δ / diam (bar: 95 % interval)")
    axis.legend()


def draw_layers(axis: Axes, part: Record) -> None:
    """Relative delta by layer for the base model and every arm, with the Gaussian null of the base."""
    for arm, layers in part["hidden"].items():
        numbers = [int(name.split()[-1]) for name in layers]
        axis.plot(numbers, [one["relative"]["mean"] for one in layers.values()], "o-", ms=3, lw=1, label=arm)
        if arm == "base":
            null = [one["nulls"]["gaussian"]["mean"] for one in layers.values()]
            axis.plot(numbers, null, ":", color=CYCLE[1], lw=1, label="base, Gaussian null")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layer (0: embeddings)")
    axis.set_ylabel("relative delta")
    axis.legend()


def draw_hierarchy(axis: Axes, part: Record) -> None:
    """Mean norm by depth in the hierarchy."""
    depths = sorted(part["norm_by_depth"], key=int)
    axis.plot(
        [int(depth) for depth in depths], [part["norm_by_depth"][depth][0] for depth in depths], "o-", ms=4
    )
    axis.set_xlabel(f"depth in {part['name']}")
    axis.set_ylabel("mean norm")
    rho = part["norm_depth"]
    axis.set_title(f"Spearman ρ = {rho['rho']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}]")
