"""The answer of a report in one line: what its table says of curvature, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lora.experiments.reports.row import ArmRow, Comparison
from manifold_lora.experiments.reports.statistics import LEVEL
from manifold_lora.experiments.reports.verdicts import (
    BETTER,
    BIAS,
    FACTORS,
    FORM,
    MARGIN,
    NORMS,
    ONLY_GAIN,
    SATURATION,
    Verdict,
    verdict,
)
from manifold_lora.experiments.results.accuracy import percent


@dataclass(frozen=True)
class Answer:
    """One line, and the comparison that its first figure is of, if it has one.

    Args:
        text: the line.
        is_found: whether a geometry passed every hurdle.
        arm, about: whose comparison, and which.
    """

    text: str
    is_found: bool = False
    arm: str = ""
    about: Comparison | None = None


Found = tuple[ArmRow, Comparison, Verdict]

# Verdicts that are a lead, the strongest first; what is beaten beside the baseline; what the word leaves out.
LEADS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((FORM, NORMS), " and than its controls", ""),
    ((ONLY_GAIN, BIAS, FACTORS, SATURATION), "", ", which needs no curvature"),
    ((BETTER,), "", "; its update is linear, and only its weights lie on a manifold"),
)


def answer(rows: Sequence[ArmRow]) -> Answer | None:
    """What the verdicts on the geometries come to; None where no arm was compared with a baseline.

    In this order: a geometry that is better than the baseline and its controls; one that is better, and the
    simpler explanation; a linear arm that is better and whose weights lie on a manifold; else the largest
    lead that the data leaves open for any of them. That bound holds for all geometries and test sets
    together: one-sided, at 5 % shared by them.
    """
    if not any(row.comparisons for row in rows):
        return None
    found = list(_of_geometries(rows))
    if not found:
        return Answer(f"No geometry was compared with {rows[0].arm}: nothing follows for curvature.")
    for words, than, because in LEADS:
        better = [one for one in found if one[2].word in words]
        if better:
            return _lead(better, than, because)
    return _bound(found, rows[0].arm)


def _of_geometries(rows: Sequence[ArmRow]) -> list[Found]:
    geometries = [row for row in rows if row.group == "geometry"]
    entries = [
        (row, row.with_role(test, "baseline"), verdict(row, test, rows))
        for row in geometries
        for test in row.scores
    ]
    return [(row, base, one) for row, base, one in entries if base is not None and one is not None]


def _lead(better: Sequence[Found], than: str, because: str) -> Answer:
    row, base, one = max(better, key=lambda entry: entry[1].difference.mean)
    gap = base.difference
    points = f"{percent(gap.mean)} [{percent(gap.low)}, {percent(gap.high)}] points on {base.test}"
    others = f" {len(better) - 1} more such comparisons." if len(better) > 1 else ""
    text = f"{row.label} is better than {base.other}{than} by {points}: {one.word}{because}.{others}"
    return Answer(text, bool(than), row.label, base)


def _bound(found: Sequence[Found], baseline: str) -> Answer:
    if min(base.difference.seeds for _, base, _ in found) < 2:
        return Answer("Cannot tell: one seed, from which nothing follows for another one.")
    share = 2 * (1 - LEVEL) / len(found)
    limits = [base.difference.mean + float(base.difference.crossed.half_width(share)) for _, base, _ in found]
    limit = min(max(limits), 1.0)
    row, base, _ = found[limits.index(max(limits))]
    if limit < 0:
        text = f"Every geometry is worse than {baseline}, by {percent(-limit)} points or more."
    elif limit <= MARGIN:
        text = f"No geometry is better than {baseline} by more than {percent(limit)} points."
    else:
        text = (
            f"Cannot tell: no geometry is better than {baseline} by more than {percent(limit)} points, and "
            f"smaller leads stay open; {_detectable(found)}."
        )
    return Answer(text, False, row.label, base)


def _detectable(found: Sequence[Found]) -> str:
    """From which size on any of the comparisons finds a lead; answers that agree everywhere have none."""
    size = min((base.detectable for _, base, _ in found if base.detectable > 0), default=math.nan)
    if math.isinf(size):
        return "this table finds no lead of whatever size"
    return f"this table finds leads from {percent(size)} points on"
