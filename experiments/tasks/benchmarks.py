"""The field's benchmarks by name: learn from some sets, be judged by others, never by the same question."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from manifold_lora.experiments.answers.judge import is_right, judge, stated
from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.data.leaks import Policy, apply_policy, find_leaks, mask_numbers, normalise
from manifold_lora.experiments.data.sets import sets_of
from manifold_lora.experiments.data.sources import Problem, Sources
from manifold_lora.experiments.tasks.base import Example, Splits
from manifold_lora.experiments.tasks.quantities import count_quantities
from manifold_lora.experiments.tasks.templates import PLAIN, Template
from manifold_lora.experiments.tasks.text_task import TextTask

# Held out of a training set that has no validation rows of its own: as many as LLM-Adapters holds out, or a
# tenth of a smaller set.
_HELD_OUT, _SHARE = 120, 0.1


class Benchmarks(TextTask):
    """Test sets of the field, and training sets without their questions.

    Args:
        name: of the task, which says what is learned from and judged by unless ``train`` or ``tests`` do.
        data: the data folder; None reads the hub.
        seed: of the order of training rows and of those held out for validation.
        template: how an instruction becomes a prompt.
        train: names in TRAIN_SETS.
        tests: names in TEST_SETS.
        leaks: ``refuse`` training rows that are in a test set, ``drop`` them, or ``allow`` them.

    Raises:
        DataError: a file or a hub data set is missing or malformed, or no training row is left.
        LeakError: training rows are in a test set, and ``leaks`` is ``refuse``.
    """

    def __init__(
        self,
        name: str,
        data: Path | None = None,
        seed: int = 0,
        limit: int | None = None,
        max_bad_records: int = 0,
        template: Template = PLAIN,
        train: Sequence[str] = (),
        tests: Sequence[str] = (),
        leaks: Policy = "refuse",
    ) -> None:
        own_train, own_tests = sets_of(name)
        self.name, self._seed, self._limit, self._template, self._policy = name, seed, limit, template, leaks
        self._sources = Sources(data, max_bad_records)
        self._learned, self._judged = tuple(train) or own_train, tuple(tests) or own_tests
        self._notes: dict[str, int] = {}
        # Read and compared at once: a leak is reported before a model is loaded.
        self._splits = self._read()

    @property
    def splits(self) -> Splits:
        """The three splits, the training rows in an order that the seed gives."""
        return self._splits.first(self._limit)

    def _read(self) -> Splits:
        tests = {name: self._sources.test(name) for name in self._judged}
        train = [row for name in self._learned for row in self._sources.train(name)]
        validation = [row for name in self._learned for row in self._sources.validation(name)]
        self._notes["malformed rows"] = self._sources.malformed
        train = self._without_tested("train", train, tests)
        validation = self._without_tested("validation", validation, tests)
        train, held_out = self._hold_out(train, self._learned if not validation else ())
        train = self._without_chosen(train, validation := [*validation, *held_out])
        masked = {mask_numbers(row.instruction) for rows in tests.values() for row in rows}
        alike = sum(mask_numbers(row.instruction) in masked for row in train)
        self._notes["train rows that equal a tested one but for their numbers"] = alike
        if not train or not validation:
            raise DataError(f"rows of {', '.join(self._learned)}", "none", "training and validation rows")
        return Splits(
            [self._example(row, f"train-{place}") for place, row in enumerate(train)],
            [self._example(row, f"validation-{place}") for place, row in enumerate(validation)],
            {name: [self._example(row, row.id) for row in rows] for name, rows in tests.items()},
        )

    def _without_tested(
        self, split: str, rows: list[Problem], tests: dict[str, list[Problem]]
    ) -> list[Problem]:
        """The rows that may be used under the policy; notes every leak."""
        questions = {name: [row.instruction for row in items] for name, items in tests.items()}
        leaks = find_leaks([row.instruction for row in rows], questions)
        self._notes[f"{split} rows in a test"] = len(leaks.rows)
        for name in leaks.tested:
            if leaks.tested[name]:
                self._notes[f"{split} rows in test {name}"] = len(leaks.trained[name])
                self._notes[f"{name} rows in {split}"] = len(leaks.tested[name])
        dropped = apply_policy(leaks, self._policy, f"{split} rows of {', '.join(self._learned)}")
        self._notes[f"{split} rows left out for that"] = len(dropped)
        return [row for place, row in enumerate(rows) if place not in dropped]

    def _hold_out(self, rows: list[Problem], learned: Sequence[str]) -> tuple[list[Problem], list[Problem]]:
        """The rows in the seed's order, and those held out of them if there is no other validation."""
        shuffled = Random(f"benchmarks-{self._seed}").sample(rows, len(rows))
        count = min(_HELD_OUT, max(1, int(_SHARE * len(rows)))) if learned else 0
        return shuffled[count:], shuffled[:count]

    def _without_chosen(self, rows: list[Problem], validation: list[Problem]) -> list[Problem]:
        """The rows whose question is neither in validation nor twice; counts the others."""
        seen = {normalise(row.instruction) for row in validation}
        kept: list[Problem] = []
        for row in rows:
            key = normalise(row.instruction)
            if key not in seen:
                kept.append(row)
            seen.add(key)
        self._notes["train rows in validation or repeated"] = len(rows) - len(kept)
        return kept

    def _example(self, row: Problem, identity: str) -> Example:
        return Example(
            identity,
            self._template.render(row.instruction),
            self._template.target(row.output) if row.output else "",
            row.answer,
            f"{len(row.choices)} choices" if row.choices else f"{count_quantities(row.instruction)} numbers",
            choices=row.choices,
        )

    def score(self, example: Example, output: str) -> Scored:
        """The number stated within 1e-3 of the answer, or the choice named; and math-verify's reading."""
        return judge(output, example.answer, example.choices)

    def is_right(self, example: Example, output: str) -> bool:
        """By the reader that decides alone."""
        return is_right(output, example.answer, example.choices)

    def gold(self, example: Example) -> str | None:
        """The target, or a sentence that states the answer as targets of its kind end."""
        return example.target or self._template.target(stated(example.answer, example.choices))

    @property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of every file or hub split read."""
        return dict(self._sources.hashes)

    @property
    def notes(self) -> dict[str, int]:
        """Leaks, and rows left out and why."""
        return dict(self._notes)
