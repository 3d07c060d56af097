"""Everything a report is made from: verified records, rows, header, and where the files lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from manifold_lora.experiments.reports.case_studies import CaseStudy, case_studies
from manifold_lora.experiments.reports.comparison import compare
from manifold_lora.experiments.reports.endpoints import Endpoint, endpoints
from manifold_lora.experiments.reports.matrices import Answers
from manifold_lora.experiments.reports.provenance import Header
from manifold_lora.experiments.reports.row import ArmRow, Comparison, Record
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore


@dataclass(frozen=True)
class Study:
    """An ablation folder as it is read for a report.

    Args:
        records: of every cell of the manifest, in its order; those without a verified result say so.
        rows: see ``compare``; none where nothing finished.
    """

    folder: Path
    manifest: Manifest
    records: Sequence[Record]
    rows: list[ArmRow]

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """Read an ablation's folder; raises ManifoldLoraError for another one."""
        manifest, store = Manifest.read(folder), ResultStore(folder)
        records = [store.read(cell) or _missing(cell) for cell in manifest.cells]
        return cls(folder, manifest, records, compare(records, store.items, manifest.baseline))

    @cached_property
    def header(self) -> Header:
        """Counts, versions, hashes."""
        return Header.of(self.records)

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """Every comparison by every measure; reads the items of all learning rates."""
        return list(endpoints(self.rows, Answers(ResultStore(self.folder).items)))

    @property
    def tests(self) -> list[str]:
        """The names of the test sets."""
        return list(self.rows[0].scores) if self.rows else []

    @property
    def title(self) -> str:
        """Task, cells and seeds in a line."""
        seeds = f", {len(self.rows[0].chosen.records)} seeds" if self.rows else ""
        return f"{self.manifest.task}: {self.header.finished} of {self.header.total} cells{seeds}"

    @property
    def unfinished(self) -> list[Record]:
        """The records without a number."""
        return [record for record in self.records if record["status"] != "ok"]

    def place(self, arm: str, item: Comparison) -> str:
        """The id, on the page, of a comparison of an arm: no two of an arm have the same role and test."""
        number = next(place for place, row in enumerate(self.rows) if row.label == arm)
        return f"difference-{number}-{item.role}-{self.tests.index(item.test)}"

    def cases(self) -> list[CaseStudy]:
        """Items that two arms answer differently."""
        return list(case_studies(self.rows, ResultStore(self.folder).items))

    def files(self, record: Record) -> dict[str, str]:
        """Kind -> path, from the report's folder, of the files of a cell that exist."""
        store, cell = ResultStore(self.folder), record["cell"]
        paths = {
            "result": store.path(cell),
            "items": store.results / f"{cell}.{record.get('items_sha256', '')[:8]}.items.jsonl",
            "log": self.folder / "logs" / f"{cell}.jsonl",
        }
        return {
            kind: path.relative_to(self.folder).as_posix() for kind, path in paths.items() if path.is_file()
        }


def _missing(cell: str) -> Record:
    empty: dict[str, Any] = {
        "point": {"arm": "?"},
        "run": {"train": {"learning_rate": float("nan"), "seed": -1}},
    }
    return {"cell": cell, "status": "missing", "reason": "not run, or its file does not verify", **empty}
