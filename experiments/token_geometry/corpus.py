"""Texts to look at: data files by path, test sets of a data folder by name, or a generated task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.files import read_rows

TEXT_FIELDS = ("instruction", "question", "prompt", "text")
SUFFIXES = (".json", ".jsonl", ".txt")


class TextRow(BaseModel):
    """A row of any file: its first field of ``TEXT_FIELDS`` that is text."""

    text: str

    @model_validator(mode="before")
    @classmethod
    def _found(cls, row: Any) -> dict[str, str]:
        for field in TEXT_FIELDS if isinstance(row, Mapping) else ():
            if isinstance(row.get(field), str):
                return {"text": row[field]}
        raise ValueError(f"is no object with a text in {', '.join(TEXT_FIELDS)}")


def read_corpus(data: Sequence[str], folder: Path | None = None) -> dict[str, list[str]]:
    """Name -> texts for every entry of ``data``.

    Args:
        data: paths of ``.json`` (a list of objects), ``.jsonl`` (an object a line) or ``.txt`` (a text a
            line); names of sets in ``folder`` (``gsm8k`` for tests/gsm8k.json); or a generated task.
        folder: a folder of the data schema (tests/, train/, commonsense/).

    Raises ManifoldLoraError for no data, UnknownNameError for an entry that is none of these, DataError (with
    path and line) for a file that cannot be read or holds no text.
    """
    if not data:
        raise ManifoldLoraError("data", "nothing", "files or tasks", "pass --data FILE or --data gsm8k")
    return {Path(entry).stem: _read(entry, folder) for entry in data}


def _read(entry: str, folder: Path | None) -> list[str]:
    if Path(entry).suffix in SUFFIXES:
        return read_texts(Path(entry))
    found = {path.name.split(".")[0]: path for path in sorted(folder.glob("*/*.json*"))} if folder else {}
    if entry in found:
        return read_texts(found[entry])
    from manifold_lora.experiments.tasks.registry import TASKS, build_task

    generated = [name for name in TASKS if not TASKS.metadata(name).get("reads")]
    if entry not in generated:
        hint = "" if folder else "pass --data-folder to name the sets of a data folder"
        raise UnknownNameError("data", entry, [*generated, *found], hint)
    splits = build_task(entry).splits
    return [example.prompt for items in splits.tests.values() for example in items]


def read_texts(path: Path) -> list[str]:
    """The texts of one file. Raises DataError starting with ``path:line:``."""
    return [row.text for row in read_rows(path, TextRow).rows]
