"""Reading the data folder: every row is checked, and a bad one is named by file and line."""

import csv
import hashlib
import io
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from manifold_lora.errors import ManifoldLoraError


class DataError(ManifoldLoraError):
    """A data file that cannot be used; the message starts with ``path:line:``."""


AnyRow = TypeVar("AnyRow", bound=BaseModel)


@dataclass(frozen=True)
class DataFile(Generic[AnyRow]):
    """The good rows of a file, one line for each row left out, and the sha256 of the bytes read."""

    path: Path | str
    rows: list[AnyRow]
    skipped: list[str]
    sha256: str


def read_rows(path: str | Path, schema: type[AnyRow], max_bad_records: int = 0) -> DataFile[AnyRow]:
    """Read a JSON list of objects (``.json``), one object a line (``.jsonl``) or ``.csv`` with a header.

    Of plain text (``.txt``) each line is a row with the field ``text``.

    Args:
        path: the file.
        schema: the row it must hold.
        max_bad_records: rows that may be left out, each with its reason in ``skipped``.

    Raises:
        DataError: no such file, not UTF-8, not the format, no row, or more bad rows than allowed.
    """
    path = Path(path)
    content = _read_bytes(path)
    records = {".jsonl": _json_lines, ".csv": _csv_rows, ".txt": _text_lines}.get(path.suffix, _json_list)
    rows, skipped = collect_rows(path, records(path, _decode(path, content)), schema, max_bad_records)
    return DataFile(path, rows, skipped, hashlib.sha256(content).hexdigest())


# A line, and what reads its record; it raises ValueError where there is none.
Record = tuple[int, Callable[[], Any]]


def collect_rows(
    path: Path | str, records: Iterable[Record], schema: type[AnyRow], max_bad_records: int
) -> tuple[list[AnyRow], list[str]]:
    """The rows of records that fit the schema, and a line for each of those left out.

    Raises DataError for more bad records than allowed, or if no row is left.
    """
    rows: list[AnyRow] = []
    skipped: list[str] = []
    seen: dict[str, int] = {}
    for line, parse in records:
        try:
            row = _checked(path, line, parse, schema)
            _check_new(path, line, row, seen)
        except DataError as error:
            skipped.append(str(error))
            if len(skipped) > max_bad_records:
                raise
        else:
            rows.append(row)
    if not rows:
        raise DataError(f"{path}:1: rows", "none", "at least one row")
    return rows, skipped


def _read_bytes(path: Path) -> bytes:
    try:
        # A pipe would be waited for without end.
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise DataError(f"{path}: file", "a pipe or a device", "a regular file")
        return path.read_bytes()
    except OSError as error:
        names = sorted(other.name for other in path.parent.glob("*.json*") if other != path)
        reason = error.strerror or "unreadable"
        raise DataError(f"{path}: file ({reason})", path.name, names) from error


def _decode(path: Path, content: bytes) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        raise DataError(f"{path}:1: encoding", "a byte order mark", "UTF-8 without one")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: encoding", content[error.start : error.end], "UTF-8") from error


def _json_lines(path: Path, text: str) -> Iterator[Record]:
    for line, record in enumerate(text.split("\n"), start=1):
        if record.strip():
            yield line, lambda record=record: _DECODER.decode(record)  # type: ignore[misc]


def _text_lines(path: Path, text: str) -> Iterator[Record]:
    for line, record in enumerate(text.splitlines(), start=1):
        if record.strip():
            yield line, partial(dict, text=record)


def _json_list(path: Path, text: str) -> Iterator[Record]:
    """The objects of a list one by one, so that a bad one is known by its line."""
    position = _expect(path, text, 0, "[")
    closed = text[position : position + 1] == "]"
    counted, line = 0, 1
    while not closed:
        counted, line = position, line + text.count("\n", counted, position)
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            # Where an object ends is unknown from here on: nothing after it can be read.
            raise DataError(f"{path}:{line}: JSON", str(error), "a list of objects") from error
        yield line, lambda value=value: value  # type: ignore[misc]
        position = _skip(text, position)
        closed = text[position : position + 1] == "]"
        position = position if closed else _expect(path, text, position, ",")
    if (position := _skip(text, position + 1)) < len(text):
        raise DataError(
            f"{path}:{_line(text, position)}: JSON", text[position:][:20], "nothing after the list"
        )


def _csv_rows(path: Path, text: str) -> Iterator[Record]:
    """The rows under a header; a field that is left empty is absent."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    if not all(name.strip() for name in header) or len(set(header)) < len(header):
        raise DataError(f"{path}:1: header", ",".join(header), "each field once, by name")
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            allowed = f"quotes that close, fields of at most {csv.field_size_limit()} signs"
            raise DataError(f"{path}:{line}: CSV", str(error), allowed) from error
        if row:
            yield line, partial(_named, header, row)


def _named(header: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise ValueError(f"{len(row)} values under a header of {len(header)}")
    return {name: value for name, value in zip(header, row, strict=True) if value}


def _expect(path: Path, text: str, position: int, mark: str) -> int:
    """The position of what follows ``mark``, which must be next."""
    position = _skip(text, position)
    if text[position : position + 1] != mark:
        got = text[position : position + 20]
        raise DataError(f"{path}:{_line(text, position)}: JSON", got, f"{mark!r}, of a JSON list of objects")
    return _skip(text, position + 1)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


@dataclass(frozen=True, repr=False)
class _Refused:
    """Stands where JSON holds what it must not, so that the records behind it are still found."""

    reason: str

    def __repr__(self) -> str:
        return self.reason


def _no_constant(name: str) -> Any:
    return _Refused(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> Any:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        return _Refused(f"a key is given twice among {keys}")
    return dict(pairs)


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique_keys)


def _checked(path: Path | str, line: int, parse: Callable[[], Any], schema: type[AnyRow]) -> AnyRow:
    try:
        return schema.model_validate(parse())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}:{line}: {field}", _short(first["input"]), reason) from error
    except (ValueError, RecursionError) as error:
        kind, allowed = ("CSV", "a value a field") if str(path).endswith(".csv") else ("JSON", "one object")
        raise DataError(f"{path}:{line}: {kind}", str(error), allowed) from error


def _short(value: object) -> object:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_new(path: Path | str, line: int, row: BaseModel, seen: dict[str, int]) -> None:
    identity = getattr(row, "id", None)
    if identity is None:
        return
    if identity in seen:
        raise DataError(f"{path}:{line}: id", identity, f"an id not yet used (line {seen[identity]} has it)")
    seen[identity] = line
