"""The CSV files of a geometry report."""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

Record = dict[str, Any]


def csv_files(record: Record) -> dict[str, str]:
    """File name -> CSV text: every prompt, every token, every layer."""
    files = {"prompts.csv": _csv(_prompt_header(record), _prompt_rows(record))}
    norms = record["norms"]
    if "reason" not in norms:
        columns = (norms["ids"], norms["tokens"], norms["counts"], norms["values"])
        files["tokens.csv"] = _csv(("id", "token", "count", "norm"), zip(*columns, strict=True))
    if record.get("layers"):
        header = ("arm", "where", "relative", "low", "high", "gaussian", "shuffled", "kappa")
        files["layers.csv"] = _csv(header, _layer_rows(record["layers"]))
    return files


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _prompt_header(record: Record) -> tuple[str, ...]:
    nulls = next(iter(record["delta"]["sets"].values()))["nulls"]
    return ("set", "prompt", "tokens", "distinct", "delta", "diameter", "relative", *nulls)


def _prompt_rows(record: Record) -> Iterable[Sequence[Any]]:
    for name, part in record["delta"]["sets"].items():
        for number, one in enumerate(part["each"]):
            values = (one["tokens"], one["distinct"], one["delta"], one["diameter"], one["relative"])
            yield (name, number, *values, *one["nulls"].values())


def _layer_rows(layers: Record) -> Iterable[Sequence[Any]]:
    for part in ("hidden", "inputs"):
        for arm, places in layers[part].items():
            for where, one in places.items():
                relative = one["relative"]
                nulls = (one["nulls"]["gaussian"]["mean"], one["nulls"]["shuffled"]["mean"])
                yield (
                    arm,
                    where,
                    relative["mean"],
                    relative["low"],
                    relative["high"],
                    *nulls,
                    one.get("kappa", ""),
                )
