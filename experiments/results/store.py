"""The store of an ablation: one result file per cell, believed only if its hash holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

from manifold_lora.experiments.results.atomic import write_bytes, write_text

SCHEMA = 1
# Fields, at any depth, that tell of the machine, the moment and interruptions instead of the cell. Everything
# else is equal, byte for byte, whenever the same cell runs on the same versions.
TIMING = frozenset(
    {
        "seconds",
        "train_seconds",
        "tokens_per_second",
        "seconds_per_item",
        "peak_memory_mb",
        "resumed_from",
        "set_aside",
        "driver",
        "sha256",
    }
)


def content(record: Any) -> Any:
    """A record without its `TIMING` fields: what the same cell gives again, in any process."""
    if isinstance(record, dict):
        return {key: content(value) for key, value in record.items() if key not in TIMING}
    if isinstance(record, list):
        return [content(value) for value in record]
    return record


def _digest(record: dict[str, Any]) -> str:
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _line(item: dict[str, Any]) -> str:
    return json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n"


class ResultStore:
    """Results of cells under ``folder/results``: ``<id>.json`` and ``<id>.<hash>.items.jsonl``.

    A result counts if it parses, its own hash holds, and the hash of its items file holds; anything else
    is as if it had never been written, and the cell runs again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"

    def path(self, cell: str) -> Path:
        """Where the result of a cell stands."""
        return self.results / f"{cell}.json"

    def items_path(self, cell: str) -> Path:
        """Where the per-item outputs of a cell stand: the file that its result names."""
        record = self._parse(cell)
        return self._items_path(cell, str((record or {}).get("items_sha256", "")))

    def write(self, cell: str, record: dict[str, Any], items: list[dict[str, Any]] | None = None) -> None:
        """Write items first, then the result that vouches for them.

        Raises ValueError on NaN or infinity, StorageError where there is no room; the old result holds then.
        """
        body, keep = {"schema": SCHEMA, "cell": cell, **record}, None
        lines = "".join(_line(item) for item in items or ()).encode("utf-8")
        if items is not None:
            body["items_sha256"] = hashlib.sha256(lines).hexdigest()
            keep = self._items_path(cell, body["items_sha256"])
        body = json.loads(json.dumps(body, allow_nan=False))  # keys are text, as they will be when read
        body["sha256"] = _digest(body)
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        if keep is not None:
            write_bytes(keep, lines)
        write_text(self.path(cell), text + "\n")
        for path in self.results.glob(f"{cell}.*.items.jsonl"):
            if path != keep:
                path.unlink(missing_ok=True)

    def read(self, cell: str) -> dict[str, Any] | None:
        """The verified result of a cell, or None."""
        record = self._parse(cell)
        return record if record is not None and self._items_hold(cell, record) else None

    def _parse(self, cell: str) -> dict[str, Any] | None:
        try:
            record = json.loads(self.path(cell).read_text(encoding="utf-8"))
            holds = isinstance(record, dict) and record.get("sha256") == _digest(record)
        except (OSError, ValueError, RecursionError):
            return None
        return record if holds else None

    def _items_path(self, cell: str, digest: str) -> Path:
        # By content: a second result that finds no room leaves the first one's items as they were.
        return self.results / f"{cell}.{digest[:8]}.items.jsonl"

    def _items_hold(self, cell: str, record: dict[str, Any]) -> bool:
        if "items_sha256" not in record:
            return True
        try:
            data = self._items_path(cell, record["items_sha256"]).read_bytes()
        except (OSError, TypeError):
            return False
        return hashlib.sha256(data).hexdigest() == record["items_sha256"]

    def done(self, cell: str) -> bool:
        """Whether a cell has a verified result of a run that succeeded."""
        record = self.read(cell)
        return record is not None and record.get("status") == "ok"

    def items(self, cell: str) -> list[dict[str, Any]]:
        """The per-item outputs of a finished cell."""
        # Not splitlines: an output may hold U+2028 and other ends of lines that JSON does not escape.
        text = self.items_path(cell).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    def all(self) -> list[dict[str, Any]]:
        """All verified results in the folder, by cell id."""
        records = (self.read(path.stem) for path in sorted(self.results.glob("*.json")))
        return [record for record in records if record is not None]
