"""Texts to look at: data files by path, test sets of a data folder by name, or a generated task."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.files import DataError

TEXT_FIELDS = ("instruction", "question", "prompt", "text")
SUFFIXES = (".json", ".jsonl", ".txt")


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
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: file", str(error), "a readable UTF-8 file") from error
    lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    if path.suffix == ".txt":
        texts = [line for _, line in lines]
    elif path.suffix == ".jsonl":
        texts = [_text(path, number, _parse(path, number, line)) for number, line in lines]
    else:
        rows = _parse(path, 1, content)
        if not isinstance(rows, list):
            raise DataError(f"{path}:1: JSON", type(rows).__name__, "a list of objects")
        texts = [_text(path, number, row) for number, row in enumerate(rows, 1)]
    if not texts:
        raise DataError(f"{path}:1: texts", "none", "at least one text")
    return texts


def _parse(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}:{number}: JSON", str(error), "valid JSON") from error


def _text(path: Path, number: int, row: Any) -> str:
    for field in TEXT_FIELDS if isinstance(row, dict) else ():
        if isinstance(row.get(field), str):
            return str(row[field])
    got = sorted(row) if isinstance(row, dict) else type(row).__name__
    raise DataError(f"{path}:{number}: text of row {number}", got, f"one of {', '.join(TEXT_FIELDS)}")
