"""From results to rows: each arm at its validation-best rate, beside the baseline on the same items."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import numpy as np

from manifold_lora.experiments.statistics import (
    Estimate,
    Matrix,
    adjusted,
    crossed_estimate,
    paired_difference,
)

Record = dict[str, Any]
Items = Callable[[str], list[dict[str, Any]]]

RATE, SEED = "train.learning_rate", "train.seed"
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
class Row:
    """One arm of the table: its chosen rate, scores and differences by test set, and median costs."""

    label: str
    chosen: Rate
    rates: tuple[Rate, ...]
    scores: dict[str, Estimate]
    differences: dict[str, Estimate]
    p_adjusted: dict[str, float]
    costs: dict[str, float]
    gain: float | None
    kappa: float | None
    at_edge: bool


def compare(records: Iterable[Record], items: Items, baseline: str) -> list[Row]:
    """Rows of the finished arms, baseline first.

    The learning rate of an arm is the one with the best mean validation accuracy (ties: the smaller) among
    those with the most finished seeds; test items are never looked at. Paired differences use the seeds both
    arms finished. p-values are Benjamini-Hochberg adjusted over all differences of the table.
    """
    chosen = _rates(records)
    order = sorted(chosen, key=lambda label: (label != baseline, list(chosen).index(label)))
    rows = [_row(label, chosen[label], chosen.get(baseline), baseline, items) for label in order]
    keys = [(row.label, name) for row in rows for name in row.differences]
    p_values = [row.differences[name].p for row in rows for name in row.differences]
    lookup = dict(zip(keys, adjusted(p_values), strict=True))
    return [
        replace(row, p_adjusted={name: lookup[row.label, name] for name in row.differences}) for row in rows
    ]


def label_of(record: Record) -> str:
    """The arm's name, with the other grid values that set it apart."""
    extra = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in record["point"].items()]
    skip = {"arm", RATE, SEED}
    extra = [text for text, key in zip(extra, record["point"], strict=True) if key not in skip]
    return " ".join([record["point"]["arm"], *extra])


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


def _row(
    label: str, rates: tuple[Rate, ...], base: tuple[Rate, ...] | None, baseline: str, items: Items
) -> Row:
    best = best_rate(rates)
    tests = [name for name in next(iter(best.records.values()))["evaluation"] if name != "validation"]
    scores = {name: crossed_estimate(correctness(best.records, name, items)) for name in tests}
    differences = {}
    if base is not None and label != baseline:
        other = best_rate(base).records
        shared = sorted(best.records.keys() & other.keys())
        ours, theirs = ({seed: group[seed] for seed in shared} for group in (best.records, other))
        if shared:
            differences = {
                name: paired_difference(correctness(ours, name, items), correctness(theirs, name, items))
                for name in tests
            }
    costs = {key: median(record["cost"][key] for record in best.records.values()) for key in COSTS}
    at_edge = len(rates) > 2 and best.value in (rates[0].value, rates[-1].value)
    return Row(
        label, best, rates, scores, differences, {}, costs, _mean(best, "gain"), _mean(best, "kappa"), at_edge
    )


def _mean(rate: Rate, key: str) -> float | None:
    values = [value for record in rate.records.values() for value in record["geometry"][key].values()]
    return fmean(values) if values else None


def correctness(records: dict[int, Record], name: str, items: Items) -> Matrix:
    """The (seeds, items) 0/1 matrix of a test set, items in the order of their ids."""
    rows = []
    for record in records.values():
        scored = {item["id"]: item["correct"] for item in items(record["cell"]) if item["set"] == name}
        rows.append([float(scored[key]) for key in sorted(scored)])
    return np.array(rows)
