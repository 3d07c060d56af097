"""The tasks an ablation is run on."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".base": "BaseSpec Document Example Scored Splits Task",
        ".registry": "TASKS build_task",
    },
)

if TYPE_CHECKING:
    from manifold_lora.experiments.answers.read import Scored as Scored
    from manifold_lora.experiments.tasks.base import BaseSpec as BaseSpec
    from manifold_lora.experiments.tasks.base import Document as Document
    from manifold_lora.experiments.tasks.base import Example as Example
    from manifold_lora.experiments.tasks.base import Splits as Splits
    from manifold_lora.experiments.tasks.base import Task as Task
    from manifold_lora.experiments.tasks.registry import TASKS as TASKS
    from manifold_lora.experiments.tasks.registry import build_task as build_task
