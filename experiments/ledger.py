"""The ledger of an ablation: one result file per cell, believed only if its hash holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

from manifold_lora.experiments.atomic import write_bytes, write_text

SCHEMA = 1


def _digest(record: dict[str, Any]) -> str:
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


class Ledger:
    """Results of cells under ``folder/results``: ``<id>.json`` and, beside it, ``<id>.items.jsonl``.

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
        """Where the per-item outputs of a cell stand."""
        return self.results / f"{cell}.items.jsonl"

    def write(self, cell: str, record: dict[str, Any], items: list[dict[str, Any]] | None = None) -> None:
        """Write items first, then the result that vouches for them; raises ValueError on NaN or infinity."""
        body = {"schema": SCHEMA, "cell": cell, **record}
        if items is not None:
            lines = "".join(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n" for item in items)
            write_bytes(self.items_path(cell), lines.encode("utf-8"))
            body["items_sha256"] = hashlib.sha256(lines.encode("utf-8")).hexdigest()
        body["sha256"] = _digest(body)
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_text(self.path(cell), text + "\n")

    def read(self, cell: str) -> dict[str, Any] | None:
        """The verified result of a cell, or None."""
        try:
            record = json.loads(self.path(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get("sha256") != _digest(record):
            return None
        return record if self._items_hold(cell, record) else None

    def _items_hold(self, cell: str, record: dict[str, Any]) -> bool:
        if "items_sha256" not in record:
            return True
        try:
            data = self.items_path(cell).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == record["items_sha256"]

    def done(self, cell: str) -> bool:
        """Whether a cell has a verified result of a run that succeeded."""
        record = self.read(cell)
        return record is not None and record.get("status") == "ok"

    def items(self, cell: str) -> list[dict[str, Any]]:
        """The per-item outputs of a finished cell."""
        return [json.loads(line) for line in self.items_path(cell).read_text(encoding="utf-8").splitlines()]

    def all(self) -> list[dict[str, Any]]:
        """All verified results in the folder, by cell id."""
        records = (self.read(path.stem) for path in sorted(self.results.glob("*.json")))
        return [record for record in records if record is not None]
