"""A task whose prompts are learned along with its targets."""

from dataclasses import replace

from manifold_lora.experiments.tasks.base import Splits
from manifold_lora.experiments.tasks.wrapped import Wrapped


class WholeText(Wrapped):
    """Another task, but the training loss counts prompts as well."""

    @property
    def splits(self) -> Splits:
        """The task's own, with the prompts of training examples to be learned."""
        splits = self._task.splits
        return replace(splits, train=[replace(example, learn_prompt=True) for example in splits.train])
