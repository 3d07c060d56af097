"""A person's own file as a task: split by question, without leaks, judged by number, choice or text."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from unicodedata import normalize

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.judge import is_right, judge
from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.data.files import DataError, DataFile, read_rows
from manifold_lora.experiments.data.leaks import Policy, apply_policy, find_leaks
from manifold_lora.experiments.data.own import CHOICE, EXACT, Fields, OwnRow, judge_of, own_rows
from manifold_lora.experiments.tasks.base import Example, Splits
from manifold_lora.experiments.tasks.templates import PLAIN, Template
from manifold_lora.experiments.tasks.text_task import TextTask

# Signs that make another question of the same words: 3 + 4 is not 3 - 4, and 1.5 is not 15.
_SIGNS = re.compile(r"[^\W_]+|(?<=\d)[.,](?=\d)|(?<![^\W\d_])-|[+*/^=<>%×÷−]")


class Own(TextTask):
    """Examples of a file; without a file of tests, a share of its questions is kept for them.

    Rows of one question are in one split. Training and validation rows whose question is in a test file are
    leaks, as in the benchmarks.

    Args:
        data: a ``.jsonl``, ``.json`` or ``.csv`` file.
        seed: of the split and of the order of training rows.
        fields: names of the fields, and how answers are judged (None: by what the file holds).
        tests: files of tests.
        held_out: share of the questions for validation, and the same again for tests where no file is given.
        template: how a question becomes a prompt.
        chat: builds the template of conversations, the model's own; called where a row holds one.
        leaks: ``refuse``, ``drop`` or ``allow``.

    Raises:
        DataError: a file is missing or malformed, or too small to be split.
        LeakError: training rows are in a test file, and ``leaks`` is ``refuse``.
    """

    name = "own"

    def __init__(
        self,
        data: Path,
        seed: int = 0,
        limit: int | None = None,
        max_bad_records: int = 0,
        *,
        fields: Fields = Fields(),  # noqa: B008 (frozen)
        tests: Sequence[str] = (),
        held_out: float = 0.1,
        template: Template = PLAIN,
        chat: Callable[[], Template] | None = None,
        leaks: Policy = "refuse",
    ) -> None:
        self._template, self._chat, self._limit = template, chat, limit
        schema = own_rows(fields)
        files = {path: read_rows(path, schema, max_bad_records) for path in (str(data), *tests)}
        learned = files.pop(str(data))
        every = [row for file in (learned, *files.values()) for row in file.rows]
        self._judge = fields.judge or judge_of(every)
        self._hashes = _hashes([learned, *files.values()])
        malformed = sum(len(file.skipped) for file in (learned, *files.values()))
        self._notes = {"malformed rows": malformed, f"answers judged by {self._judge}": len(every)}
        self._splits = self._split(learned, files, held_out, Random(f"own-{seed}"), leaks)

    @property
    def splits(self) -> Splits:
        """The three splits, the training rows in an order that the seed gives."""
        return self._splits.first(self._limit)

    def _split(
        self,
        learned: DataFile[OwnRow],
        tests: dict[str, DataFile[OwnRow]],
        held_out: float,
        random: Random,
        policy: Policy,
    ) -> Splits:
        rows = self._without_tested(learned, tests, policy)
        questions: dict[str, list[OwnRow]] = {}
        for row in rows:
            questions.setdefault(question_key(row.prompt), []).append(row)
        self._notes["rows that repeat a question"] = len(rows) - len(questions)
        groups = random.sample(list(questions.values()), len(questions))
        count = max(1, round(held_out * len(groups)))
        parts = {name: file.rows for name, file in tests.items()}
        judged = 0 if tests else count
        if len(groups) <= count + judged:
            allowed = f"more than {count + judged}, so that some are left to learn from"
            raise DataError(f"{learned.path}: questions", len(groups), allowed)
        if not tests:
            parts = {str(learned.path): [row for group in groups[:judged] for row in group]}
        chosen, taught = groups[judged : judged + count], groups[judged + count :]
        train = [row for group in taught for row in group]
        random.shuffle(train)
        names = _names(list(parts))
        return Splits(
            self._examples(train, "train"),
            self._examples([row for group in chosen for row in group], "validation"),
            {names[path]: self._examples(items, names[path]) for path, items in parts.items()},
        )

    def _without_tested(
        self, learned: DataFile[OwnRow], tests: dict[str, DataFile[OwnRow]], policy: Policy
    ) -> list[OwnRow]:
        questions = {name: [row.prompt for row in file.rows] for name, file in tests.items()}
        leaks = find_leaks([row.prompt for row in learned.rows], questions, question_key)
        if tests:
            self._notes["rows in a test"] = len(leaks.rows)
        dropped = apply_policy(leaks, policy, f"rows of {learned.path}")
        return [row for place, row in enumerate(learned.rows) if place not in dropped]

    def _examples(self, rows: Sequence[OwnRow], split: str) -> list[Example]:
        names = [row.id or f"{split}-{place}" for place, row in enumerate(rows)]
        if repeated := [name for name, times in Counter(names).items() if times > 1]:
            raise DataError(f"id of {split}", repeated[0], "no id that a row without one has by its place")
        return [self._example(row, name) for row, name in zip(rows, names, strict=True)]

    def _example(self, row: OwnRow, identity: str) -> Example:
        prompt, target = self._asked(row)
        group = f"{len(row.choices)} choices" if self._judge == CHOICE else ""
        choices = row.choices if self._judge == CHOICE else ()
        return Example(identity, prompt, target, row.answer, group, choices=choices)

    def _asked(self, row: OwnRow) -> tuple[str, str]:
        """The prompt and the target of a row."""
        if row.messages:
            return self._turns.conversation(row.messages), self._turns.target(row.target)
        if row.verbatim and self._template == PLAIN:
            return row.prompt, row.target
        return self._template.render(row.prompt), self._template.target(row.target)

    @cached_property
    def _turns(self) -> Template:
        if self._chat is None:
            raise ManifoldLoraError("messages of a row", "no chat template", "a model that has one")
        return self._chat()

    def score(self, example: Example, output: str) -> Scored:
        """By number within 1e-3, by the choice named, or by the same text with blanks aside."""
        if self._judge == EXACT:
            said = _text_key(output)
            return Scored(said, said == _text_key(example.answer))
        return judge(output, example.answer, example.choices)

    def is_right(self, example: Example, output: str) -> bool:
        """By the reader that decides alone."""
        if self._judge == EXACT:
            return self.score(example, output).correct
        return is_right(output, example.answer, example.choices)

    @property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of every file, by its name."""
        return dict(self._hashes)

    @property
    def notes(self) -> dict[str, int]:
        """Leaks, rows left out, and what answers are judged by."""
        return dict(self._notes)


def question_key(question: str) -> str:
    """Letters, digits and the signs of arithmetic, lower-case: where two agree, they are one question."""
    return "".join(_SIGNS.findall(normalize("NFKC", question).casefold()))


def _text_key(text: str) -> str:
    return " ".join(normalize("NFC", text).split())


def _hashes(files: Sequence[DataFile[OwnRow]]) -> dict[str, str]:
    names = _names([str(file.path) for file in files])
    return {names[str(file.path)]: file.sha256 for file in files}


def _names(paths: Sequence[str]) -> dict[str, str]:
    """File names for paths: no place on disk counts; numbered where two are the same."""
    names = [Path(path).stem for path in paths]
    return {
        path: name if names.count(name) == 1 else f"{name}-{place}"
        for place, (path, name) in enumerate(zip(paths, names, strict=True))
    }
