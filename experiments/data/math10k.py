"""The Math-10K recipe of LLM-Adapters, from its sources, without the test questions it repeats."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.files import DataError, read_rows
from manifold_lora.experiments.data.leaks import find_leaks, normalise
from manifold_lora.experiments.data.rows import (
    AnyQuestion,
    EquationRow,
    GradeSchoolRow,
    MathRow,
    RationaleRow,
)
from manifold_lora.experiments.results.atomic import write_text

ROWS_OF_AQUA = 1000
# Rows in these are left out; rows in the others are named in also_in, as the README of the data folder says.
_LEFT_OUT = {
    "gsm8k": "tests/gsm8k.json",
    "AQuA": "tests/AQuA.json",
    "mawps": "tests/mawps.json",
    "SVAMP": "tests/SVAMP.json",
}
_NAMED = {"AddSub": "tests/AddSub.json", "MultiArith": "tests/MultiArith.json"}
_KEYS = ("source", "instruction", "output", "answer", "also_in")


@dataclass(frozen=True)
class Counts:
    """What became of the rows of one source."""

    read: int
    repeated: int
    tested: int
    not_drawn: int
    kept: int


@dataclass(frozen=True)
class Built:
    """The training set, what became of each source's rows, and rows by the test set that also holds them."""

    rows: list[MathRow]
    counts: dict[str, Counts]
    also_in: dict[str, int]

    @property
    def text(self) -> str:
        """One JSON object a line, its keys in the order of the README of the data folder."""
        return "".join(
            json.dumps({key: getattr(row, key) for key in _KEYS}, ensure_ascii=False) + "\n"
            for row in self.rows
        )

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_text(path, self.text)


def rebuild(data: Path, aqua_rows: int = ROWS_OF_AQUA, seed: int = 0, max_bad_records: int = 0) -> Built:
    """GSM8K train + MAWPS train + MAWPS-single train + ``aqua_rows`` rows of AQuA, each question once.

    Rationales are GSM8K's and AQuA's own; MAWPS has equations for them (the original's were written by
    ChatGPT and are not published with a licence). Rows in the GSM8K, AQuA, MAWPS and SVAMP tests are left
    out; those in AddSub and MultiArith, which MAWPS contains, are kept and named in ``also_in``.

    Source: Hu et al., LLM-Adapters, 2023, section 4.1.
    Raises DataError for a missing or malformed file, ManifoldLoraError for more AQuA rows than there are.
    """
    if not data.is_dir():
        raise DataError("data folder", str(data), "a folder with train/ and tests/")
    tests = {name: _questions(data / path, max_bad_records) for name, path in {**_LEFT_OUT, **_NAMED}.items()}
    refused = {normalise(question) for name in _LEFT_OUT for question in tests[name]}
    kept: list[MathRow] = []
    counts: dict[str, Counts] = {}
    seen: set[str] = set()
    for source, rows in _sources(data, max_bad_records).items():
        fresh, repeated, tested = _new(rows, seen, refused)
        chosen = _drawn(fresh, aqua_rows, seed) if source == "aqua_train" else fresh
        counts[source] = Counts(len(rows), repeated, tested, len(fresh) - len(chosen), len(chosen))
        kept += chosen
    leaks = find_leaks([row.instruction for row in kept], {name: tests[name] for name in _NAMED})
    also = {name: set(places) for name, places in leaks.trained.items()}
    rows = [
        row.model_copy(update={"also_in": [name for name in _NAMED if place in also[name]]})
        for place, row in enumerate(kept)
    ]
    return Built(rows, counts, {name: len(places) for name, places in also.items()})


def _sources(data: Path, max_bad_records: int) -> dict[str, list[MathRow]]:
    school = read_rows(data / "train/gsm8k_train.jsonl", GradeSchoolRow, max_bad_records).rows
    found = {"gsm8k_train": [_row("gsm8k_train", row.question, row.output, row.number) for row in school]}
    for name in ("mawps_train", "mawps_single_train"):
        equations = read_rows(data / f"train/{name}_equations.jsonl", EquationRow, max_bad_records).rows
        found[name] = [_row(name, row.instruction, row.output, row.answer) for row in equations]
    letters = read_rows(data / "train/aqua_train_flan.jsonl", RationaleRow, max_bad_records).rows
    found["aqua_train"] = [_row("aqua_train", row.instruction, row.output, row.answer) for row in letters]
    return found


def _row(source: str, instruction: str, output: str, answer: str) -> MathRow:
    return MathRow(source=source, instruction=instruction, output=output, answer=answer)


def _new(rows: Iterable[MathRow], seen: set[str], refused: set[str]) -> tuple[list[MathRow], int, int]:
    """The rows whose question is neither seen before nor tested, and how many were; adds to ``seen``."""
    fresh: list[MathRow] = []
    repeated = tested = 0
    for row in rows:
        key = normalise(row.instruction)
        if key in refused:
            tested += 1
        elif key in seen:
            repeated += 1
        else:
            fresh.append(row)
        seen.add(key)
    return fresh, repeated, tested


def _drawn(rows: Sequence[MathRow], count: int, seed: int) -> list[MathRow]:
    if not 0 <= count <= len(rows):
        raise ManifoldLoraError("rows of AQuA", count, f"0 to {len(rows)}")
    return [rows[place] for place in sorted(Random(seed).sample(range(len(rows)), count))]


def _questions(path: Path, max_bad_records: int) -> list[str]:
    return [row.instruction for row in read_rows(path, AnyQuestion, max_bad_records).rows]
