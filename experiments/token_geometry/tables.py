"""The CSV files of a geometry report."""

from collections.abc import Iterator
from typing import Any

from manifold_lora.experiments.reports.csv_files import csv_text

Record = dict[str, Any]


def csv_files(record: Record) -> dict[str, str]:
    """File name -> CSV text: every prompt, every token, every layer."""
    files = {"prompts.csv": csv_text(_prompts(record["delta"]["sets"]))}
    norms = record["norms"]
    if "reason" not in norms:
        columns = (norms["ids"], norms["tokens"], norms["counts"], norms["values"])
        names = ("id", "token", "count", "norm")
        files["tokens.csv"] = csv_text(
            dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
        )
    if record.get("layers"):
        files["layers.csv"] = csv_text(_layers(record["layers"]))
    return files


def _prompts(sets: Record) -> Iterator[Record]:
    names = ("tokens", "distinct", "delta", "diameter", "relative")
    for name, part in sets.items():
        for number, one in enumerate(part["each"]):
            yield {"set": name, "prompt": number, **{key: one[key] for key in names}, **one["nulls"]}


def _layers(layers: Record) -> Iterator[Record]:
    for part in ("hidden", "inputs"):
        for arm, places in layers[part].items():
            for where, one in places.items():
                mean, low, high = (one["relative"][key] for key in ("mean", "low", "high"))
                span = {"relative": mean, "low": low, "high": high}
                nulls = {name: null["mean"] for name, null in one["nulls"].items()}
                yield {"arm": arm, "where": where, **span, **nulls, "kappa": one.get("kappa")}
