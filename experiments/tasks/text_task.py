"""Tasks in plain text, which no embedded base is made for."""

from collections.abc import Iterator

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Task


class TextTask(Task):
    """A task whose questions need a model that has read text."""

    @property
    def base_spec(self) -> BaseSpec:
        """None: no base is pre-trained for it. Raises ManifoldLoraError."""
        raise ManifoldLoraError("embedded base of task", self.name, "a pre-trained model", "set model.name")

    def pretraining_texts(self) -> Iterator[Document]:
        """Nothing: see ``base_spec``."""
        return iter(())
