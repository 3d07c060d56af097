"""The tasks an ablation is run on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS: dict[str, str] = {
    "BaseSpec": "manifold_lora.experiments.tasks.base",
    "Document": "manifold_lora.experiments.tasks.base",
    "Example": "manifold_lora.experiments.tasks.base",
    "Scored": "manifold_lora.experiments.tasks.base",
    "Splits": "manifold_lora.experiments.tasks.base",
    "Task": "manifold_lora.experiments.tasks.base",
    "TASKS": "manifold_lora.experiments.tasks.registry",
    "build_task": "manifold_lora.experiments.tasks.registry",
}

__all__ = ["TASKS", "BaseSpec", "Document", "Example", "Scored", "Splits", "Task", "build_task"]

if TYPE_CHECKING:
    from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Scored, Splits, Task
    from manifold_lora.experiments.tasks.registry import TASKS, build_task


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
