"""Data sets of the Hugging Face hub, read into the rows that the data folder has."""

import hashlib
import json
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from manifold_lora.experiments.data.files import DataError, DataFile, collect_rows
from manifold_lora.experiments.data.rows import SolvedRow

HubRow = Mapping[str, Any]
# instruction, output, answer
Converted = tuple[str, str, str]


@dataclass(frozen=True)
class Hub:
    """A data set by its id, the splits to learn from and to be judged by, and how a row is read.

    ``validation`` is a split that is neither; where there is none, rows of ``train`` are held out.
    ``revision`` of data sets that are published as a script is the hub's own conversion to parquet.
    """

    dataset: str
    convert: Callable[[HubRow], Converted]
    test: str = "test"
    train: str | None = "train"
    validation: str | None = None
    config: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """Where a row is from, in messages."""
        return "/".join(["hub:", self.dataset, *([self.config] if self.config else [])]).replace(":/", ":")


class _Present(UserDict[str, Any]):
    """A row whose empty fields are missing, lest "None" be part of a question."""

    def __getitem__(self, name: str) -> Any:
        value = self.data[name]
        if value is None:
            raise ValueError(f"field {name} is empty")
        return value


def read_hub(hub: Hub, split: str, max_bad_records: int = 0) -> DataFile[SolvedRow]:
    """Read a split, from the hub or its local cache, and check every row as a row of a file is checked.

    Raises DataError if it is not to be had (offline and not in the cache, say), or for malformed rows.
    """
    where = f"{hub.name}/{split}"
    try:
        from datasets import load_dataset

        rows: Iterable[Any] = load_dataset(hub.dataset, hub.config, split=split, revision=hub.revision)
    except Exception as error:  # whatever a network, a cache or a script of the hub raises
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        hint = "without a network: task.data, a folder of the schema in data/README.md"
        raise DataError(
            f"{where}: data set", reason[:200], "one that the hub or its cache has", hint
        ) from error
    digest = hashlib.sha256()

    def converted(row: HubRow, place: int) -> dict[str, str]:
        try:
            instruction, output, answer = hub.convert(_Present(row))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error} among the fields {', '.join(row)}") from error
        found = {"id": f"{where}-{place}", "instruction": instruction, "output": output, "answer": answer}
        digest.update(json.dumps(found, ensure_ascii=True, sort_keys=True).encode())
        return found

    records = (
        (place, lambda row=row, place=place: converted(row, place)) for place, row in enumerate(rows, 1)
    )
    read, skipped = collect_rows(where, records, SolvedRow, max_bad_records)
    return DataFile(where, read, skipped, digest.hexdigest())
