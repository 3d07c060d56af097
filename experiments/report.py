"""The report of an ablation folder: table on the console, table.csv and table.png beside the results."""

from pathlib import Path
from typing import Any

from rich.console import Console

from manifold_lora.experiments.atomic import sweep_temporaries, write_text
from manifold_lora.experiments.comparison import Record, compare
from manifold_lora.experiments.ledger import Ledger
from manifold_lora.experiments.manifest import Manifest
from manifold_lora.experiments.table import LEGEND, cost_table, csv_text, failed_table, score_table


def write_report(folder: Path, console: Console) -> int:
    """Print the table and write ``table.csv`` and ``table.png``; returns 1 if a cell has no result, else 0.

    Every figure is computed from the verified result files. Temp files that dead writers left are removed.
    Raises ManifoldLoraError for another folder, StorageError where there is no room; the old files hold then.
    """
    manifest, ledger = Manifest.read(folder), Ledger(folder)
    sweep_temporaries(folder, ledger.results)
    records = [ledger.read(cell) or _missing(cell) for cell in manifest.cells]
    rows = compare(records, ledger.items, manifest.baseline)
    finished = sum(record["status"] == "ok" for record in records)
    if rows:
        from manifold_lora.experiments.figure import draw

        seeds = len(rows[0].chosen.records)
        title = f"{manifest.task}: {finished} of {len(records)} cells, {seeds} seeds"
        console.print(score_table(rows, title), cost_table(rows), sep="\n")
        console.print(LEGEND, style="dim")
        write_text(folder / "table.csv", csv_text(rows))
        draw(rows, title, folder / "table.png")
        console.print(f"{folder / 'table.csv'}, {folder / 'table.png'}, results in {ledger.results}")
    failed = failed_table(records)
    if failed is not None:
        console.print(failed)
    return 0 if finished == len(records) and records else 1


def _missing(cell: str) -> Record:
    empty: dict[str, Any] = {
        "point": {"arm": "?"},
        "run": {"train": {"learning_rate": float("nan"), "seed": -1}},
    }
    return {"cell": cell, "status": "missing", "reason": "not run, or its file does not verify", **empty}
