"""The figures of a report as CSV: arms by test sets, and every comparison."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields

from manifold_lora.experiments.reports.costs import ratio
from manifold_lora.experiments.reports.endpoints import Endpoint
from manifold_lora.experiments.reports.row import ArmRow, Comparison, Dose
from manifold_lora.experiments.reports.statistics import Estimate
from manifold_lora.experiments.reports.verdicts import verdict
from manifold_lora.experiments.results.accuracy import percent

# What a cell begins with that a spreadsheet computes; in full width too, as Excel reads them in the East.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")


def scores_csv(rows: list[ArmRow]) -> str:
    """One line per arm and test set, every figure of the table and its parts."""
    return csv_text(_score_line(row, name, score, rows) for row in rows for name, score in row.scores.items())


def comparisons_csv(rows: list[ArmRow]) -> str:
    """One line per comparison, with McNemar's tests beside."""
    return csv_text(_comparison_line(row, item) for row in rows for item in row.comparisons)


def endpoints_csv(endpoints: Iterable[Endpoint]) -> str:
    """One line per comparison and measure."""
    return csv_text(_endpoint_line(one) for one in endpoints)


def csv_text(lines: Iterable[Mapping[str, object]]) -> str:
    """CSV with a column for every key that a line has."""
    rows = list(lines)
    out = io.StringIO()
    keys = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(out, list(keys), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """Text as a spreadsheet shows it: behind an apostrophe where it would be taken for a formula."""
    formula = isinstance(value, str) and any(text.startswith(_FORMULA) for text in (value, value.lstrip()))
    return f"'{value}" if formula else value


def _score_line(row: ArmRow, name: str, score: Estimate, rows: list[ArmRow]) -> dict[str, object]:
    said = verdict(row, name, rows)
    base = row.with_role(name, "baseline")
    gap = base and base.difference
    return {
        "arm": row.label,
        "group": row.group,
        "role": row.role,
        "test": name,
        "learning_rate": row.chosen.value,
        "at_edge": row.at_edge,
        "seeds": score.seeds,
        "items": row.items(name),
        "clusters": score.items,
        "accuracy": score.mean,
        "low": score.low,
        "high": score.high,
        "sd": score.sd,
        "validation": row.chosen.validation,
        "baseline": row.against,
        "difference": gap and gap.mean,
        "difference_low": gap and gap.low,
        "difference_high": gap and gap.high,
        "p": gap and gap.p,
        "p_adjusted": base and base.p_adjusted,
        "detectable": base and _detectable(base),
        "verdict": said and said.word,
        "gain": row.gain,
        "kappa": row.kappa,
        **_dose(row),
        "cells": " ".join(record["cell"] for record in row.chosen.records.values()),
        **{key: None if math.isnan(value) else value for key, value in row.costs.items()},
        "train_seconds_ratio": ratio(row, rows, "train_seconds"),
    }


def _detectable(item: Comparison) -> float | str:
    """A number, or a word where no difference would be found."""
    return percent(item.detectable) if math.isinf(item.detectable) else item.detectable


def _dose(row: ArmRow) -> dict[str, object]:
    return {f"dose_{field.name}": row.dose and getattr(row.dose, field.name) for field in fields(Dose)}


def _comparison_line(row: ArmRow, item: Comparison) -> dict[str, object]:
    gap, pooled = item.difference, item.mcnemar.pooled
    return {
        "arm": row.label,
        "other": item.other,
        "role": item.role,
        "test": item.test,
        "seeds": gap.seeds,
        "items": row.items(item.test),
        "clusters": gap.items,
        "difference": gap.mean,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "p_adjusted": item.p_adjusted,
        "detectable": _detectable(item),
        "only_arm_right": pooled.arm,
        "only_other_right": pooled.other,
        "mcnemar_p_pooled": pooled.p,
        "mcnemar_p_by_seed": " ".join(f"{seed}:{test.p:.3g}" for seed, test in item.mcnemar.by_seed.items()),
    }


def _endpoint_line(one: Endpoint) -> dict[str, object]:
    gap = one.difference
    return {
        "arm": one.arm,
        "other": one.about.other,
        "role": one.about.role,
        "test": one.about.test,
        "endpoint": one.kind,
        "arm_mean": one.value,
        "other_mean": one.other_value,
        "difference": gap.mean,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "seeds": gap.seeds,
        "clusters": gap.items,
        "learning_rates": " ".join(f"{rate:g}" for rate in one.rates),
    }
