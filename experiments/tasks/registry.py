"""Names to tasks."""

from pathlib import Path
from typing import Any

from manifold_lora.experiments.tasks.base import Task
from manifold_lora.manifolds.errors import ManifoldLoraError
from manifold_lora.manifolds.registry import Registry

TASKS: Registry[Any] = Registry("task", "manifold_lora.tasks")
_HOME = "manifold_lora.experiments.tasks"
TASKS.declare("taxonomy", f"{_HOME}.taxonomy:Taxonomy", needs_data=False)
TASKS.declare("arithmetic", f"{_HOME}.arithmetic:Arithmetic", needs_data=False)
TASKS.declare("word_problems", f"{_HOME}.word_problems:WordProblems", needs_data=True)


def build_task(
    name: str,
    data: str | Path | None = None,
    seed: int = 0,
    *,
    style: str = "equation",
    limit: int | None = None,
    max_bad_records: int = 0,
) -> Task:
    """The task under ``name``.

    Args:
        name: a name in TASKS.
        data: the data folder; required by tasks that read files, refused by those that do not.
        seed: of the generated items and splits, not of training.
        style: ``"equation"`` for the embedded base, ``"text"`` for plain prompts to a pre-trained model.
        limit: keep at most so many examples of train, validation and each test set.
        max_bad_records: malformed rows to leave out and count before a file is refused.

    Raises:
        UnknownNameError: no task has that name.
        ManifoldLoraError: a data folder is missing or not wanted, or ``style`` or ``limit`` is not allowed.
        DataError: a file is missing or malformed.
    """
    TASKS.check(name)
    if style not in ("equation", "text"):
        raise ManifoldLoraError("prompt style", style, ("equation", "text"))
    if limit is not None and limit < 1:
        raise ManifoldLoraError("limit", limit, "a whole number from 1 up, or none")
    needs_data = TASKS.facts(name).get("needs_data", False)
    if needs_data and data is None:
        raise ManifoldLoraError(f"data folder of task {name!r}", None, "a folder", "pass DATA=../shared/data")
    if needs_data:
        return TASKS[name](
            Path(data or ""), seed=seed, style=style, limit=limit, max_bad_records=max_bad_records
        )
    if data is not None:
        raise ManifoldLoraError(
            f"data folder of task {name!r}", str(data), "none: this task generates its items"
        )
    return TASKS[name](seed=seed, style=style, limit=limit)
