"""From results to rows: each arm at its validation-best rate, beside others on the same seeds and items."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from manifold_lora.experiments.reports.controls import FORMS, control_of, counterpart, hurdles_of
from manifold_lora.experiments.reports.groups import GROUPS, ROLES, Role, role_of
from manifold_lora.experiments.reports.matrices import Answers, Items
from manifold_lora.experiments.reports.mcnemar import SeedTests
from manifold_lora.experiments.reports.row import (
    COSTS,
    ArmRow,
    Claim,
    Comparison,
    Dose,
    Rate,
    Record,
    extras_of,
    label_of,
)
from manifold_lora.experiments.reports.statistics import (
    Estimate,
    Matrix,
    adjusted,
    crossed_estimate,
    paired_difference,
)

# What an arm of a role is compared with beside the baseline.
CONTROLS: dict[Role, tuple[Role, ...]] = {
    "geometry": ("gain", "tangent", "flat", "blind", "norms", "bias", "frozen", "factors", *FORMS),
    "weights": ("factors",),
}


def compare(records: Iterable[Record], items: Items, baseline: str) -> list[ArmRow]:
    """Rows of the finished arms: baselines, the named one first, then controls, then geometries.

    The learning rate of an arm is the one with the best mean validation accuracy (ties: the smaller) among
    those with the most finished seeds; test items are never looked at. Every arm is compared with the
    baseline, a geometry also with the controls that are there, on the seeds both finished; where the grid has
    further axes, with the arm at the same values of them. An arm that is LoRA by algebra asks nothing new and
    is counted in no correction. p-values of arms against the baseline are Benjamini-Hochberg adjusted
    together; so are the claims of geometries, each by the largest p of its hurdles.
    """
    answers = Answers(items)
    rows = [_row(label, rates, answers) for label, rates in _rates(records).items()]
    rows.sort(key=lambda row: (row.arm != baseline, *_place(row)))
    compared = _adjust([_compared(row, rows, baseline, answers) for row in rows])
    return _claimed(_claimed(compared, "norms"), "form", FORMS)


def _place(row: ArmRow) -> tuple[int, int]:
    return list(GROUPS).index(row.group), list(ROLES).index(row.role)


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


def _row(label: str, rates: tuple[Rate, ...], answers: Answers) -> ArmRow:
    best = best_rate(rates)
    first = next(iter(best.records.values()))
    tests = [name for name in first["evaluation"] if name != "validation"]
    arm = first["point"]["arm"]
    return ArmRow(
        label,
        arm,
        role_of(first["run"], arm),
        extras_of(first),
        best,
        rates,
        scores={name: _share(answers.matrix(best.records, name)) for name in tests},
        costs={key: _cost(best, key) for key in COSTS},
        gain=_middle(best, "gain"),
        kappa=_middle(best, "kappa"),
        dose=Dose.of(best.records.values()),
        at_edge=len(rates) > 2 and best.value in (rates[0].value, rates[-1].value),
    )


def _share(correct: Matrix) -> Estimate:
    """An accuracy: its interval ends where accuracies do."""
    estimate = crossed_estimate(correct)
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _middle(rate: Rate, key: str) -> float | None:
    """The median over modules and seeds: solved for a dose, kappa differs by orders of magnitude."""
    values = [value for record in rate.records.values() for value in record["geometry"][key].values()]
    return median(values) if values else None


def _cost(rate: Rate, key: str) -> float:
    """The median over seeds; NaN where one did not measure it, or before it was measured."""
    values = [record["cost"].get(key) for record in rate.records.values()]
    return math.nan if None in values else median(values)


def _compared(row: ArmRow, rows: Sequence[ArmRow], baseline: str, answers: Answers) -> ArmRow:
    """The row with its comparisons: to the baseline, and for a geometry to each kind of control it has."""
    if row.arm == baseline:
        return row
    base = counterpart(row, [other for other in rows if other.arm == baseline])
    others: list[tuple[Role, ArmRow | None]] = [("baseline", base)]
    controls = [(role, control_of(row, rows, role)) for role in CONTROLS.get(row.role, ())]
    others += [(role, other) for role, other in controls if other is not base and not _is_twin(other)]
    comparisons = [
        _comparison(row, other, role, test, answers)
        for role, other in others
        if other is not None and _seeds(row) & _seeds(other)
        for test in row.scores
        if test in other.scores
    ]
    return replace(row, against=base.label if base else None, comparisons=tuple(comparisons))


def _is_twin(other: ArmRow | None) -> bool:
    """Whether a control is the baseline by algebra: the same question twice."""
    return other is not None and other.is_plain_lora


def _seeds(row: ArmRow) -> set[int]:
    return set(row.chosen.records)


def _comparison(row: ArmRow, other: ArmRow, role: Role, test: str, answers: Answers) -> Comparison:
    shared = sorted(_seeds(row) & _seeds(other))
    ours, theirs = ({seed: side.chosen.records[seed] for seed in shared} for side in (row, other))
    gap = paired_difference(answers.matrix(ours, test), answers.matrix(theirs, test))
    alone = SeedTests.of(shared, answers.right(ours, test), answers.right(theirs, test))
    return Comparison(test, other.label, role, gap, alone)


def _adjust(rows: list[ArmRow]) -> list[ArmRow]:
    """Adjust the comparisons with the baseline together, without arms that are the baseline by algebra."""
    counted = [row for row in rows if not row.is_plain_lora]
    p_values = [item.difference.p for row in counted for item in row.comparisons if item.role == "baseline"]
    found = iter(adjusted(p_values))

    def settle(item: Comparison) -> Comparison:
        return replace(item, p_adjusted=next(found), tests=len(p_values)) if item.role == "baseline" else item

    settled = {row.label: tuple(map(settle, row.comparisons)) for row in counted}
    return [replace(row, comparisons=settled.get(row.label, row.comparisons)) for row in rows]


def _claimed(rows: list[ArmRow], kind: str, more: tuple[Role, ...] = ()) -> list[ArmRow]:
    """The rows with their claims of a kind, adjusted over all curved arms and test sets."""
    curved = [row for row in rows if row.role == "geometry"]
    claims = {row.label: [_claim(kind, row, test, more) for test in row.scores] for row in curved}
    found = iter(adjusted([claim.p for group in claims.values() for claim in group]))
    tests = sum(map(len, claims.values()))
    settled = {
        name: tuple(_settled(one, next(found), tests) for one in group) for name, group in claims.items()
    }
    return [replace(row, claims=row.claims + settled.get(row.label, ())) for row in rows]


def _claim(kind: str, row: ArmRow, test: str, more: tuple[Role, ...]) -> Claim:
    found = {role: row.with_role(test, role) for role in (*hurdles_of(row), *more)}
    hurdles = tuple(item for item in found.values() if item is not None)
    return Claim(kind, test, hurdles, tuple(role for role, item in found.items() if item is None))


def _settled(claim: Claim, p_adjusted: float, tests: int) -> Claim:
    hurdles = tuple(replace(item, tests=tests) for item in claim.hurdles)
    return replace(claim, hurdles=hurdles, p_adjusted=p_adjusted)
