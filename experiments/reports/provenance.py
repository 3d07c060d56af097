"""What a report begins with: how many cells ended how, on which versions and data, and what was left out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from manifold_lora.experiments.reports.row import Record


@dataclass(frozen=True)
class Header:
    """Counts over the records of a report.

    Args:
        statuses: status -> cells.
        versions: package -> its versions; more than one where cells ran on different ones.
        inputs: name -> hashes of what was read.
        notes: what the task left out or found (leaks among them) -> counts.
        disagreements: test set -> (answers read differently by the two extractors, answers).
        truncated: test set -> (answers cut by the token limit, answers).
        interrupted: cells that went on from a checkpoint.
        set_aside: why checkpoints were not used.
    """

    statuses: dict[str, int]
    versions: dict[str, list[str]]
    inputs: dict[str, list[str]]
    notes: dict[str, list[Any]]
    disagreements: dict[str, tuple[int, int]]
    truncated: dict[str, tuple[int, int]]
    interrupted: int
    set_aside: list[str]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Header":
        """Gather from all records, also those without a result."""
        done = [record for record in records if record["status"] == "ok"]
        training = [record.get("train", {}) for record in done]
        return cls(
            dict(Counter(record["status"] for record in records)),
            _gather(record.get("meta", {}).get("versions", {}) for record in done),
            _gather(record.get("meta", {}).get("inputs", {}) for record in done),
            _gather(record.get("meta", {}).get("notes", {}) for record in done),
            _counted(done, "disagreements"),
            _counted(done, "truncated"),
            sum(bool(train.get("resumed_from")) for train in training),
            [reason for train in training for reason in train.get("set_aside", ())],
        )

    @property
    def finished(self) -> int:
        """Cells with a result."""
        return self.statuses.get("ok", 0)

    @property
    def ended(self) -> str:
        """How many cells ended how; failed and diverged ones are counted even where there are none."""
        counts = {"failed": 0, "diverged": 0, **self.statuses}
        others = [f"{count} {status}" for status, count in counts.items() if status != "ok"]
        return ", ".join([f"{self.finished} done", *others])

    @property
    def packages(self) -> str:
        """Packages with their versions."""
        return ", ".join(f"{name} {' and '.join(map(str, found))}" for name, found in self.versions.items())

    @property
    def total(self) -> int:
        """All cells."""
        return sum(self.statuses.values())


def _gather(blocks: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for block in blocks:
        for name, value in block.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return found


def _counted(records: Sequence[Record], key: str) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for record in records:
        for name, entry in record["evaluation"].items():
            found, answers = counts.get(name, (0, 0))
            counts[name] = (found + entry.get(key, 0), answers + entry["items"])
    return counts
