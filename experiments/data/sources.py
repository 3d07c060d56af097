"""Reading training and test sets from the data folder or the hub, as one kind of problem."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifold_lora.experiments.data.files import DataError, DataFile, read_rows
from manifold_lora.experiments.data.hub import Hub, read_hub
from manifold_lora.experiments.data.rows import GradeSchoolRow, Record, choices_of
from manifold_lora.experiments.data.sets import TEST_SETS, TRAIN_SETS


@dataclass(frozen=True)
class Problem:
    """An instruction, the text to learn ("" where none is known), the answer, and what it is chosen from."""

    id: str
    instruction: str
    output: str
    answer: str
    choices: tuple[str, ...]


@dataclass
class Sources:
    """The sets of a task, read from ``data`` (a folder) or, without one, from the hub.

    Collects the hash of everything read, and counts the rows left out.
    """

    data: Path | None
    max_bad_records: int = 0
    hashes: dict[str, str] = field(default_factory=dict)
    malformed: int = 0

    def __post_init__(self) -> None:
        if self.data is not None and not self.data.is_dir():
            raise DataError("data folder", str(self.data), "a folder with train/ and tests/ or commonsense/")

    def test(self, name: str) -> list[Problem]:
        """All rows of a test set."""
        judged = TEST_SETS[name]
        if self.data is None:
            return list(_problems(self._hub(judged.hub, judged.hub.test).rows, name))
        return list(_problems(self._file(judged.file, judged.schema, judged.hub).rows, name))

    def train(self, name: str) -> list[Problem]:
        """All training rows of a training set."""
        learned = TRAIN_SETS[name]
        if self.data is None:
            hub = _learnable(name, learned.hub)
            return list(_problems(self._hub(hub, hub.train or "").rows, f"{name}-train"))
        files = [self._file(file, learned.schema, learned.hub) for file in learned.files]
        return list(_problems([row for file in files for row in file.rows], f"{name}-train"))

    def validation(self, name: str) -> list[Problem]:
        """The rows of a training set that come apart from its training rows; none if it has no such rows."""
        learned = TRAIN_SETS[name]
        if self.data is None:
            hub = _learnable(name, learned.hub)
            rows: list[Any] = list(self._hub(hub, hub.validation).rows) if hub.validation else []
        else:
            rows = (
                self._file(learned.validation, learned.schema, learned.hub).rows if learned.validation else []
            )
        return list(_problems(rows, f"{name}-validation"))

    def _file(self, file: str, schema: type[Record], hub: Hub | None) -> DataFile[Any]:
        path = (self.data or Path()) / file
        if hub is not None and not path.exists():
            names = sorted(other.name for other in path.parent.glob("*.json*"))
            hint = (
                f"without task.data (--data) all sets of the task come from the hub, this one as {hub.name}"
            )
            raise DataError(f"{path}: file", "none", names or "the files of the data schema", hint)
        return self._noted(file, read_rows(path, schema, self.max_bad_records))

    def _hub(self, hub: Hub, split: str) -> DataFile[Any]:
        return self._noted(f"{hub.name}/{split}", read_hub(hub, split, self.max_bad_records))

    def _noted(self, name: str, read: DataFile[Any]) -> DataFile[Any]:
        self.hashes[name] = read.sha256
        self.malformed += len(read.skipped)
        return read


def _learnable(name: str, hub: Hub | None) -> Hub:
    if hub is None or hub.train is None:
        hint = "manifold-lora data math10k makes it" if name == "math10k" else ""
        raise DataError(f"training set {name} on the hub", "none", "task.data: a folder that has it", hint)
    return hub


def _problems(rows: list[Any], prefix: str) -> Iterator[Problem]:
    for place, row in enumerate(rows):
        answer = row.number if isinstance(row, GradeSchoolRow) else row.answer
        identity = getattr(row, "id", None) or f"{prefix}-{place}"
        output = getattr(row, "output", "")
        yield Problem(identity, row.instruction, output, answer, choices_of(row.instruction))
