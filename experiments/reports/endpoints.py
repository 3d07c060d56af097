"""What an arm is compared by: accuracy at its chosen rate, mean over all rates, nats of the gold answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from manifold_lora.experiments.reports.matrices import Answers
from manifold_lora.experiments.reports.row import ArmRow, Comparison, Record
from manifold_lora.experiments.reports.statistics import Estimate, Matrix, paired_difference

Kind = Literal["accuracy", "mean over rates", "nll"]
KINDS: dict[Kind, str] = {
    "accuracy": "share of right answers at each arm's validation-best rate; what verdicts are of",
    "mean over rates": "the same, each item's mean over the learning rates that all arms have: an arm that "
    "bears more rates is better here",
    "nll": "nats of the gold answer at the chosen rate, less is better; only where every item's is known",
}


@dataclass(frozen=True)
class Endpoint:
    """An arm minus another by one measure, on the same seeds and items; p is of this comparison alone.

    ``about`` is the pair's comparison by accuracy. ``value`` and ``other_value`` are the two means that
    ``difference`` is of, ``rates`` the learning rates that went into the arm's.
    """

    kind: Kind
    arm: str
    about: Comparison
    value: float
    other_value: float
    difference: Estimate
    rates: tuple[float, ...]


def endpoints(rows: Sequence[ArmRow], answers: Answers) -> Iterator[Endpoint]:
    """Every comparison of the rows, by every measure that the data have.

    One set of learning rates serves all arms, so that the means can be compared with one another; where arms
    have fewer than two in common, or no seed finished all of them, there is no such mean.
    """
    named = {row.label: row for row in rows}
    common = _common(rows)
    for row in rows:
        for item in row.comparisons:
            other = named[item.other]
            yield from _of(row, other, item, common, answers)


def _common(rows: Sequence[ArmRow]) -> tuple[float, ...]:
    shared = [{rate.value for rate in row.rates} for row in rows]
    return tuple(sorted(set.intersection(*shared))) if shared else ()


def _of(
    row: ArmRow, other: ArmRow, item: Comparison, common: tuple[float, ...], answers: Answers
) -> Iterator[Endpoint]:
    def made(kind: Kind, ours: Matrix, theirs: Matrix, rates: tuple[float, ...]) -> Endpoint:
        means = float(ours.mean()), float(theirs.mean())
        gap = paired_difference(ours, theirs)
        return Endpoint(kind, row.label, item, *means, gap, rates)

    sides = (row, other)
    chosen = [side.chosen.records for side in sides]
    kept = _shared(chosen)
    ours, theirs = (answers.matrix(records, item.test) for records in kept)
    yield made("accuracy", ours, theirs, (row.chosen.value,))
    grids = [[rate.records for rate in side.rates if rate.value in common] for side in sides]
    whole = _shared([records for grid in grids for records in grid]) if len(common) > 1 else []
    if whole and whole[0]:
        half = len(whole) // 2
        by_rate = [answers.matrix(records, item.test) for records in whole]
        means = [np.mean(part, axis=0) for part in (by_rate[:half], by_rate[half:])]
        yield made("mean over rates", means[0], means[1], common)
    nats = [answers.nll(records, item.test) for records in kept]
    if nats[0] is not None and nats[1] is not None:
        yield made("nll", nats[0], nats[1], (row.chosen.value,))


def _shared(groups: Sequence[Mapping[int, Record]]) -> list[dict[int, Record]]:
    """The records of the seeds that all have, in the order of the seeds."""
    seeds = sorted(set.intersection(*(set(group) for group in groups)))
    return [{seed: group[seed] for seed in seeds} for group in groups]
