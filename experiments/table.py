"""The table of an ablation: on the console, as CSV, and the failed cells beneath it."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.table import Table

from manifold_lora.experiments.comparison import Record, Row, label_of
from manifold_lora.experiments.statistics import Estimate


def _percent(estimate: Estimate) -> str:
    spread = f" ± {100 * estimate.sd:.1f}" if estimate.seeds > 1 else ""
    return f"{100 * estimate.mean:.1f}{spread}"


def _difference(estimate: Estimate | None, p: float | None) -> str:
    if estimate is None or p is None:
        return "baseline"
    mark = "*" if p < 0.05 else ""
    return f"{100 * estimate.mean:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]{mark}"


def score_table(rows: Sequence[Row], title: str) -> Table:
    """Arms by test sets: accuracy in % (mean ± spread over seeds) and paired difference."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("arm", no_wrap=True)
    table.add_column("lr", justify="right", no_wrap=True)
    for name in rows[0].scores:
        table.add_column(f"{name} %", justify="right", no_wrap=True)
        table.add_column(f"Δ {rows[0].label} [95 %]", justify="right", no_wrap=True)
    for row in rows:
        cells = [row.label, f"{row.chosen.value:g}{'^' if row.at_edge else ''}"]
        for name, score in row.scores.items():
            cells += [_percent(score), _difference(row.differences.get(name), row.p_adjusted.get(name))]
        table.add_row(*cells)
    return table


def cost_table(rows: Sequence[Row]) -> Table:
    """Arms by what they cost: medians over seeds at the chosen rate; × is the ratio to the first arm."""
    table = Table(title="gain and cost", title_justify="left", header_style="bold")
    table.add_column("arm", no_wrap=True)
    for name in ("c", "train s", "×", "tokens/s", "ms/item", "peak MB", "params", "KB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        costs = row.costs
        table.add_row(
            row.label,
            "" if row.gain is None else f"{row.gain:.3g}",
            f"{costs['train_seconds']:.1f}",
            f"{costs['train_seconds'] / rows[0].costs['train_seconds']:.2f}",
            f"{costs['tokens_per_second']:.0f}",
            f"{1000 * costs['seconds_per_item']:.1f}",
            f"{costs['peak_memory_mb']:.0f}",
            f"{costs['trainable_parameters']:.0f}",
            f"{costs['adapter_bytes'] / 1024:.0f}",
        )
    return table


LEGEND = (
    "Accuracy: mean ± standard deviation over seeds, each arm at its validation-best learning rate "
    "(^: at the edge of the tried rates). Δ: paired difference in points with a 95 % interval over seeds and "
    "items; *: significant at 5 % after Benjamini-Hochberg. c: mean gain |Δh|/|BAx| over layers."
)


def csv_text(rows: Sequence[Row]) -> str:
    """One line per arm and test set, every figure of the table and its parts."""
    out = io.StringIO()
    fields = ["arm", "test", "learning_rate", "at_edge", "seeds", "items", "accuracy", "low", "high", "sd"]
    fields += [
        "validation",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "p_adjusted",
        "detectable",
    ]
    fields += ["gain", "kappa", "cells"]
    writer = csv.DictWriter(out, [*fields, *(rows[0].costs if rows else ())], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for name, score in row.scores.items():
            writer.writerow(_csv_row(row, name, score))
    return out.getvalue()


def _csv_row(row: Row, name: str, score: Estimate) -> dict[str, object]:
    line: dict[str, object] = {
        "arm": row.label,
        "test": name,
        "learning_rate": row.chosen.value,
        "at_edge": row.at_edge,
        "seeds": score.seeds,
        "items": score.items,
        "accuracy": score.mean,
        "low": score.low,
        "high": score.high,
        "sd": score.sd,
        "validation": row.chosen.validation,
        "gain": row.gain,
        "kappa": row.kappa,
        "cells": " ".join(record["cell"] for record in row.chosen.records.values()),
        **row.costs,
    }
    difference = row.differences.get(name)
    if difference is not None:
        line |= {
            "difference": difference.mean,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "p": difference.p,
            "p_adjusted": row.p_adjusted[name],
            "detectable": difference.detectable,
        }
    return line


def failed_table(records: Iterable[Record]) -> Table | None:
    """The cells without a number and why, or None where every cell finished."""
    failed = [record for record in records if record["status"] != "ok"]
    if not failed:
        return None
    table = Table(title="cells without a result", title_justify="left", header_style="bold red")
    for name in ("cell", "arm", "lr", "seed", "status", "reason"):
        table.add_column(name, overflow="fold")
    for record in failed:
        train = record["run"]["train"]
        table.add_row(
            record["cell"],
            label_of(record),
            f"{train['learning_rate']:g}",
            str(train["seed"]),
            record["status"],
            record["reason"],
        )
    return table
