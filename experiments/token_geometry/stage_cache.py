"""Results by the content that they were computed from: the same inputs are never measured twice."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from manifold_lora.experiments.results.atomic import write_text

# Part of every key: raise it when a measurement's meaning changes.
_VERSION = 1


@dataclass
class StageCache:
    """A folder of JSON results named by stage and hash; ``hits`` lists the stages answered from it."""

    folder: Path

    def __post_init__(self) -> None:
        self.hits: list[str] = []

    def get(self, stage: str, inputs: dict[str, Any], compute: Callable[[], Any]) -> Any:
        """The result of ``compute`` as plain data, from the cache where the same inputs were seen before.

        Args:
            stage: name of the measurement.
            inputs: everything the result depends on, as plain data; contents by hash.

        A file that is not whole JSON (a disk that ran full) is computed again.
        """
        text = json.dumps({"version": _VERSION, **inputs}, sort_keys=True, default=str)
        path = self.folder / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = plain(compute())
            write_text(path, json.dumps(found))
        else:
            self.hits.append(stage)
        return found


def plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, keys as text, NaN and infinity as None: what JSON holds."""
    text = json.dumps(value, default=_one)
    return json.loads(text, parse_constant=lambda _: None)


def _one(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is no plain data")


def hash_texts(texts: dict[str, list[str]]) -> str:
    """Hash of a corpus."""
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
