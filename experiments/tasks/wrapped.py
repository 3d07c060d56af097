"""A task that is another one but for what a subclass changes."""

from collections.abc import Iterator

from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Splits, Task


class Wrapped(Task):
    """Another task, under its name; a subclass says what differs."""

    def __init__(self, task: Task) -> None:
        self._task, self.name = task, task.name

    @property
    def splits(self) -> Splits:
        """The task's own."""
        return self._task.splits

    def score(self, example: Example, output: str) -> Scored:
        """As the task does."""
        return self._task.score(example, output)

    def is_right(self, example: Example, output: str) -> bool:
        """As the task does."""
        return self._task.is_right(example, output)

    def gold(self, example: Example) -> str | None:
        """As the task does."""
        return self._task.gold(example)

    @property
    def base_spec(self) -> BaseSpec:
        """The task's own."""
        return self._task.base_spec

    def pretraining_texts(self) -> Iterator[Document]:
        """The task's own."""
        return self._task.pretraining_texts()

    @property
    def data_hashes(self) -> dict[str, str]:
        """The task's own."""
        return self._task.data_hashes

    @property
    def notes(self) -> dict[str, int]:
        """The task's own."""
        return self._task.notes
