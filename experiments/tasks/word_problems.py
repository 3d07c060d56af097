"""Real word problems: the model writes the equation over N0, N1, ..., the value is judged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from manifold_lora.experiments.answers.equations import count_operations, evaluate_equation, parse_equation
from manifold_lora.experiments.answers.judge import is_right, judge, stated
from manifold_lora.experiments.answers.read import Scored, equal_numbers
from manifold_lora.experiments.data.files import DataError, DataFile, read_rows
from manifold_lora.experiments.data.leaks import normalise
from manifold_lora.experiments.data.rows import EquationRow, InstructionRow, ProblemRow
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Splits, Task
from manifold_lora.experiments.tasks.problems import Words, generated_problems
from manifold_lora.experiments.tasks.quantities import CONSTANTS, map_equation, map_quantities
from manifold_lora.experiments.tasks.templates import PLAIN, Template

_TRAIN = ("train/mawps_train_equations.jsonl", "train/mawps_single_train_equations.jsonl")
_VALIDATION = "train/mawps_valid_equations.jsonl"
_TESTS = {"mawps": "tests/mawps.json", "addsub": "tests/AddSub.json", "svamp": "tests/SVAMP.json"}
# Gold answers in these files are rounded to whole cents or less; an equation further off is a wrong label.
_CUE = " =>"
_LABEL_TOLERANCE = 0.011


@dataclass(frozen=True)
class _Files:
    train: list[DataFile[EquationRow]]
    validation: DataFile[EquationRow]
    tests: dict[str, DataFile[ProblemRow]]

    def all(self) -> list[DataFile]:
        return [*self.train, self.validation, *self.tests.values()]


class WordProblems(Task):
    """MAWPS and MAWPS-single to learn from; MAWPS, AddSub and SVAMP to be judged by.

    Validation and training rows that occur in a test file are left out and counted, and so are training rows
    that occur in validation (normalised text, as in the README of the data folder).

    Raises:
        DataError: a file is missing or malformed, or no row is left.
    """

    name = "word_problems"

    def __init__(
        self,
        data: Path,
        seed: int = 0,
        style: str = "equation",
        limit: int | None = None,
        max_bad_records: int = 0,
        template: Template = PLAIN,
    ) -> None:
        if not data.is_dir():
            raise DataError("data folder", str(data), "a folder with train/ and tests/")
        self._data, self._seed, self._style, self._limit = data, seed, style, limit
        self._template = template
        self._files = _Files(
            [read_rows(data / name, EquationRow, max_bad_records) for name in _TRAIN],
            read_rows(data / _VALIDATION, EquationRow, max_bad_records),
            {name: read_rows(data / path, ProblemRow, max_bad_records) for name, path in _TESTS.items()},
        )
        self._notes: dict[str, int] = {"malformed rows": sum(len(file.skipped) for file in self._files.all())}

    @property
    def splits(self) -> Splits:
        """The three splits, the training rows in an order that the seed gives."""
        return self._splits.first(self._limit)

    @cached_property
    def _splits(self) -> Splits:
        tests = {name: [self._tested(row) for row in file.rows] for name, file in self._files.tests.items()}
        tested = {normalise(row.instruction) for file in self._files.tests.values() for row in file.rows}
        validation = self._learned("validation", self._files.validation.rows, tested)
        chosen = {normalise(row.instruction) for row in self._files.validation.rows}
        train = self._learned(
            "train", [row for file in self._files.train for row in file.rows], tested, chosen
        )
        if not train or not validation:
            raise DataError(f"{self._data}: rows", "none", "training and validation rows outside the tests")
        # As the field has them, and as the README of the data folder says: they stay, and are counted.
        masked = {_masked(example) for items in tests.values() for example in items}
        alike = sum(_masked(example) in masked for example in train)
        self._notes["train rows that equal a tested one but for their numbers"] = alike
        Random(f"word-problems-{self._seed}").shuffle(train)
        return Splits(train, validation, tests)

    def _learned(
        self, split: str, rows: list[EquationRow], tested: set[str], chosen: Iterable[str] = ()
    ) -> list[Example]:
        """The rows with a usable equation whose question is new; counts the others by their reason."""
        examples: list[Example] = []
        counts = dict.fromkeys(("in a test", "in validation", "repeated", "without equation"), 0)
        seen: set[str] = set()
        for index, row in enumerate(rows):
            key, example = normalise(row.instruction), self._labelled(row, f"{split}-{index}")
            if key in tested:
                counts["in a test"] += 1
            elif key in chosen:
                counts["in validation"] += 1
            elif key in seen:
                counts["repeated"] += 1
            elif example is None:
                counts["without equation"] += 1
            else:
                examples.append(example)
            seen.add(key)
        self._notes |= {f"{split} rows {reason}": count for reason, count in counts.items()}
        return examples

    def _labelled(self, row: EquationRow, identity: str) -> Example | None:
        question, numbers = map_quantities(row.instruction)
        target = map_equation(row.equation, numbers)
        tree = parse_equation(target or "")
        value = evaluate_equation(target or "", numbers)
        if target is None or tree is None or not equal_numbers(value, row.answer, _LABEL_TOLERANCE):
            return None
        steps = f"{min(count_operations(tree), 3)} steps"
        if self._style == "text":
            return Example(identity, self._ask(row), self._template.target(row.output), row.answer, steps)
        return Example(identity, question + _CUE, target, repr(value), steps, numbers)

    def _tested(self, row: ProblemRow) -> Example:
        question, numbers = map_quantities(row.instruction)
        size = f"{len(numbers)} numbers"
        if self._style == "text":
            return Example(row.id, self._ask(row), "", row.answer, size)
        return Example(row.id, question + _CUE, "", row.answer, size, numbers)

    def _ask(self, row: InstructionRow) -> str:
        return self._template.render(row.instruction)

    def score(self, example: Example, output: str) -> Scored:
        """The value of the equation, or the last number of a text, within 1e-3 of the answer."""
        if self._style == "text":
            return judge(output, example.answer)
        value = evaluate_equation(output, example.numbers)
        return Scored("" if value is None else f"{value:.10g}", equal_numbers(value, example.answer))

    def is_right(self, example: Example, output: str) -> bool:
        """By the reader that decides alone."""
        text = self._style == "text"
        return is_right(output, example.answer) if text else self.score(example, output).correct

    def gold(self, example: Example) -> str | None:
        """The target; without one a sentence that states the answer, and in equation style nothing."""
        if self._style == "text" and not example.target:
            return self._template.target(stated(example.answer))
        return example.target or None

    @property
    def base_spec(self) -> BaseSpec:
        """A Llama of three layers that has read equations before."""
        return BaseSpec(
            hidden_size=96,
            layers=3,
            heads=4,
            intermediate_size=192,
            steps=1200,
            batch_size=32,
            learning_rate=3e-3,
            max_positions=160,
            min_count=2,
        )

    def pretraining_texts(self) -> Iterator[Document]:
        """Generated problems and real ones of one step with equations; the training questions as text."""
        train = self._splits.train
        words = Words.of(example.prompt for example in train)
        for question, equation in generated_problems(12_000, Random(f"base-{self._seed}"), words):
            yield _in_words(question, equation)
        for example in train:
            question = example.prompt.removesuffix(_CUE)
            if example.group == "1 steps":
                yield from [_in_words(question, example.target)] * 3
            yield Document(question)
        # The vocabulary is the words that are read min_count times: equations of the task hold these too.
        constants = " ".join(f"{constant:g}" for constant in CONSTANTS)
        yield from [Document(constants)] * self.base_spec.min_count

    @property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of every file read."""
        return {str(Path(file.path).relative_to(self._data)): file.sha256 for file in self._files.all()}

    @property
    def notes(self) -> dict[str, int]:
        """Rows left out and why."""
        _ = self._splits
        return dict(self._notes)


def _in_words(question: str, equation: str) -> Document:
    """As the base is taught: the cue of the task is new to it, and with it what real problems need."""
    return Document(f"{question} the equation is {equation}", context=f"{question} the equation is")


def _masked(example: Example) -> str:
    return normalise(map_quantities(example.prompt)[0])
