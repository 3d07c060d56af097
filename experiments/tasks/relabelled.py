"""A task whose right answers are those of a trained model: the truth is then what that model can do."""

import json
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.tasks.base import Example, Splits, Task
from manifold_lora.experiments.tasks.wrapped import Wrapped

LEFT_OUT = "items without an answer of the student"


class Relabelled(Wrapped):
    """Another task's prompts with the answers of a student in place of the gold ones.

    Args:
        task: whose prompts and scoring are kept.
        path: a JSON mapping, set (``train``, ``validation``, each test) -> id -> [text, answer read from it].
            Items that it lacks are left out and counted.

    Raises ManifoldLoraError for a file that is none, or where nothing is left of a set.
    """

    def __init__(self, task: Task, path: Path) -> None:
        super().__init__(task)
        try:
            content = path.read_bytes()
            self._labels: dict[str, dict[str, list[str]]] = json.loads(content)
        except (OSError, ValueError) as error:
            raise ManifoldLoraError("labels", str(path), "a file of --null distilled", str(error)) from error
        self._sha256 = sha256(content).hexdigest()

    @cached_property
    def splits(self) -> Splits:
        """The task's own, relabelled."""
        own = self._task.splits
        tests = {name: self._with_labels(name, items) for name, items in own.tests.items()}
        train, validation = (
            self._with_labels(name, items)
            for name, items in (("train", own.train), ("validation", own.validation))
        )
        return Splits(train, validation, tests)

    def _with_labels(self, name: str, items: list[Example]) -> list[Example]:
        labels = self._labels.get(name, {})
        found = [
            replace(item, target=labels[item.id][0], answer=labels[item.id][1])
            for item in items
            if item.id in labels
        ]
        if not found:
            raise ManifoldLoraError("relabelled items", f"none in {name}", "1 or more")
        return found

    @property
    def data_hashes(self) -> dict[str, str]:
        """The task's own, and the labels'."""
        return {**self._task.data_hashes, "labels": self._sha256}

    @property
    def notes(self) -> dict[str, int]:
        """The task's own, and how many items had no answer."""
        own, ours = self._task.splits, self.splits
        lost = len(own.train) + len(own.validation) - len(ours.train) - len(ours.validation)
        lost += sum(len(items) - len(ours.tests[name]) for name, items in own.tests.items())
        return {**self._task.notes, LEFT_OUT: lost}
