"""From results to rows: each arm at its validation-best rate, beside others on the same seeds and items."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import numpy as np

from manifold_lora.experiments.reports.controls import control_of, counterpart
from manifold_lora.experiments.reports.groups import GROUPS, ROLES, Group, Role, group_of, role_of
from manifold_lora.experiments.reports.mcnemar import SeedTests
from manifold_lora.experiments.statistics import (
    Estimate,
    Matrix,
    adjusted,
    crossed_estimate,
    paired_difference,
)

Record = dict[str, Any]
Items = Callable[[str], list[dict[str, Any]]]

CONTROLS: tuple[Role, ...] = ("gain", "tangent", "flat", "norms", "bias")
ARM, RATE, SEED = "arm", "train.learning_rate", "train.seed"
COSTS = (
    "train_seconds",
    "tokens_per_second",
    "seconds_per_item",
    "peak_memory_mb",
    "trainable_parameters",
    "adapter_bytes",
)


@dataclass(frozen=True)
class Rate:
    """One learning rate of an arm: its records by seed and their mean validation accuracy."""

    value: float
    records: dict[int, Record]

    @property
    def validation(self) -> float:
        """Mean validation accuracy over the seeds."""
        return fmean(record["evaluation"]["validation"]["accuracy"] for record in self.records.values())


@dataclass(frozen=True)
class Comparison:
    """An arm minus another on one test set, same seeds and items; ``p_adjusted`` over the whole report.

    ``role`` is the other's: what the comparison is for.
    """

    test: str
    other: str
    role: Role
    difference: Estimate
    mcnemar: SeedTests
    p_adjusted: float = float("nan")

    @property
    def is_significant(self) -> bool:
        """Whether the two differ at 5 % after correction; never by one seed, which says nothing of others."""
        return self.difference.seeds > 1 and self.p_adjusted < 0.05

    def significant(self, sign: int) -> bool:
        """Whether the arm is so better (sign 1) or worse (-1) than the other."""
        return self.is_significant and self.difference.mean * sign > 0


@dataclass(frozen=True)
class Row:
    """One arm of the table: its chosen rate, scores by test set, comparisons, and median costs.

    ``against`` is the label of the baseline row that it is compared with, None for a baseline.
    """

    label: str
    arm: str
    role: Role
    extras: tuple[tuple[str, str], ...]
    chosen: Rate
    rates: tuple[Rate, ...]
    scores: dict[str, Estimate]
    costs: dict[str, float]
    gain: float | None
    kappa: float | None
    at_edge: bool
    against: str | None = None
    comparisons: tuple[Comparison, ...] = ()

    @property
    def group(self) -> Group:
        """The block of the table that it stands in."""
        return group_of(self.role)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of its first run."""
        run: Mapping[str, Any] = next(iter(self.chosen.records.values()))["run"]
        return run

    @property
    def adapter(self) -> Mapping[str, Any]:
        """The adapter block of these settings."""
        block: Mapping[str, Any] = self.settings.get("adapter", {})
        return block

    @property
    def alpha(self) -> float:
        """LoRA's alpha."""
        return float(self.adapter.get("alpha", 1.0))

    @property
    def norm_scaling(self) -> str:
        """The norm scaling's name, shared by the layers or not."""
        stated = self.adapter.get("norm_scaling", "learned")
        return str(stated["mode"] if isinstance(stated, Mapping) else stated)

    def with_role(self, test: str, role: Role) -> Comparison | None:
        """Its comparison with the arm of a role on a test set, if there is one."""
        found = (item for item in self.comparisons if (item.test, item.role) == (test, role))
        return next(found, None)

    @property
    def differences(self) -> dict[str, Estimate]:
        """By test set, the difference to the baseline."""
        return {item.test: item.difference for item in self.comparisons if item.role == "baseline"}

    @property
    def p_adjusted(self) -> dict[str, float]:
        """By test set, the adjusted p of that difference."""
        return {item.test: item.p_adjusted for item in self.comparisons if item.role == "baseline"}


def compare(records: Iterable[Record], items: Items, baseline: str) -> list[Row]:
    """Rows of the finished arms: baselines, the named one first, then controls, then geometries.

    The learning rate of an arm is the one with the best mean validation accuracy (ties: the smaller) among
    those with the most finished seeds; test items are never looked at. Every arm is compared with the
    baseline, a geometry also with the controls that are there, on the seeds both finished; where the grid has
    further axes, with the arm at the same values of them. p-values are Benjamini-Hochberg adjusted over all
    of these.
    """
    answers = Answers(items)
    rows = [_row(label, rates, answers) for label, rates in _rates(records).items()]
    rows.sort(key=lambda row: (row.arm != baseline, *_place(row)))
    return _adjust([_compared(row, rows, baseline, answers) for row in rows])


def _place(row: Row) -> tuple[int, int]:
    return list(GROUPS).index(row.group), list(ROLES).index(row.role)


class Answers:
    """Which items of a cell were right, each cell's file read once."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._read: dict[str, dict[str, dict[str, bool]]] = {}

    def matrix(self, records: Mapping[int, Record], test: str) -> Matrix:
        """The (seeds, items) 0/1 matrix of a test set, items in the order of their ids."""
        scored = [self._of(record["cell"])[test] for record in records.values()]
        return np.array([[float(right[key]) for key in sorted(right)] for right in scored])

    def _of(self, cell: str) -> dict[str, dict[str, bool]]:
        if cell not in self._read:
            sets: dict[str, dict[str, bool]] = defaultdict(dict)
            for item in self._items(cell):
                sets[item["set"]][item["id"]] = item["correct"]
            self._read[cell] = sets
        return self._read[cell]


def extras_of(record: Record) -> tuple[tuple[str, str], ...]:
    """The grid values beside arm, rate and seed that set a record apart."""
    skip = {ARM, RATE, SEED}
    return tuple((key, str(value)) for key, value in record["point"].items() if key not in skip)


def label_of(record: Record) -> str:
    """The arm's name, with the other grid values that set it apart."""
    extras = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in extras_of(record)]
    return " ".join([record["point"]["arm"], *extras])


def _rates(records: Iterable[Record]) -> dict[str, tuple[Rate, ...]]:
    groups: dict[str, dict[float, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if record["status"] == "ok":
            train = record["run"]["train"]
            groups[label_of(record)][train["learning_rate"]][train["seed"]] = record
    return {
        label: tuple(Rate(value, dict(sorted(seeds.items()))) for value, seeds in sorted(by_rate.items()))
        for label, by_rate in groups.items()
    }


def best_rate(rates: tuple[Rate, ...]) -> Rate:
    """The validation-best rate among those with the most finished seeds; the smaller one of equals."""
    seeds = max(len(rate.records) for rate in rates)
    return max(
        (rate for rate in rates if len(rate.records) == seeds),
        key=lambda rate: (rate.validation, -rate.value),
    )


def _row(label: str, rates: tuple[Rate, ...], answers: Answers) -> Row:
    best = best_rate(rates)
    first = next(iter(best.records.values()))
    tests = [name for name in first["evaluation"] if name != "validation"]
    arm = first["point"]["arm"]
    return Row(
        label,
        arm,
        role_of(first["run"], arm),
        extras_of(first),
        best,
        rates,
        scores={name: _share(answers.matrix(best.records, name)) for name in tests},
        costs={key: median(record["cost"][key] for record in best.records.values()) for key in COSTS},
        gain=_mean(best, "gain"),
        kappa=_mean(best, "kappa"),
        at_edge=len(rates) > 2 and best.value in (rates[0].value, rates[-1].value),
    )


def _share(correct: Matrix) -> Estimate:
    """An accuracy: its interval ends where accuracies do."""
    estimate = crossed_estimate(correct)
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _mean(rate: Rate, key: str) -> float | None:
    values = [value for record in rate.records.values() for value in record["geometry"][key].values()]
    return fmean(values) if values else None


def _compared(row: Row, rows: Sequence[Row], baseline: str, answers: Answers) -> Row:
    """The row with its comparisons: to the baseline, and for a geometry to each kind of control."""
    if row.arm == baseline:
        return row
    base = counterpart(row, [other for other in rows if other.arm == baseline])
    others: list[tuple[Role, Row | None]] = [("baseline", base)]
    if row.role == "geometry":
        controls = [(role, control_of(row, rows, role)) for role in CONTROLS]
        others += [(role, other) for role, other in controls if other is not base]
    comparisons = [
        _comparison(row, other, role, test, answers)
        for role, other in others
        if other is not None and _seeds(row) & _seeds(other)
        for test in row.scores
        if test in other.scores
    ]
    return replace(row, against=base.label if base else None, comparisons=tuple(comparisons))


def _seeds(row: Row) -> set[int]:
    return set(row.chosen.records)


def _comparison(row: Row, other: Row, role: Role, test: str, answers: Answers) -> Comparison:
    shared = sorted(_seeds(row) & _seeds(other))
    ours, theirs = (
        answers.matrix({seed: side.chosen.records[seed] for seed in shared}, test) for side in (row, other)
    )
    return Comparison(
        test, other.label, role, paired_difference(ours, theirs), SeedTests.of(shared, ours, theirs)
    )


def _adjust(rows: list[Row]) -> list[Row]:
    p_values = iter(adjusted([item.difference.p for row in rows for item in row.comparisons]))
    return [
        replace(row, comparisons=tuple(replace(item, p_adjusted=next(p_values)) for item in row.comparisons))
        for row in rows
    ]
