"""Names to tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.sets import GROUPS, TEST_SETS, TRAIN_SETS
from manifold_lora.experiments.tasks.base import Task
from manifold_lora.experiments.tasks.templates import PLAIN, Template
from manifold_lora.registry import Registry

TASKS: Registry[Any] = Registry("task", "manifold_lora.tasks")
_HOME = "manifold_lora.experiments.tasks"
# reads: nothing (the items are generated), a data folder, or a data folder or the hub.
TASKS.declare("taxonomy", f"{_HOME}.taxonomy:Taxonomy", reads="")
TASKS.declare("arithmetic", f"{_HOME}.arithmetic:Arithmetic", reads="")
TASKS.declare("word_problems", f"{_HOME}.word_problems:WordProblems", reads="folder")
for _name in (*TEST_SETS, *GROUPS):
    TASKS.declare(_name, f"{_HOME}.benchmarks:Benchmarks", reads="folder or hub")


def build_task(
    name: str,
    data: str | Path | None = None,
    seed: int = 0,
    *,
    style: str = "equation",
    limit: int | None = None,
    max_bad_records: int = 0,
    template: Template = PLAIN,
    train: str | Sequence[str] | None = None,
    tests: str | Sequence[str] | None = None,
    leaks: str = "refuse",
) -> Task:
    """The task under ``name``.

    Args:
        name: a name in TASKS.
        data: the data folder; required by word_problems, refused by tasks that generate their items; without
            one, the benchmarks are read from the hub.
        seed: of the generated items and splits, not of training.
        style: ``"equation"``, or ``"text"`` for plain prompts to a pre-trained model.
        limit: keep at most so many examples of train, validation and each test set.
        max_bad_records: malformed rows to leave out and count before a file is refused.
        template: how a text prompt is written.
        train: training sets of a benchmark, in place of its own.
        tests: test sets of a benchmark, in place of its own.
        leaks: what a benchmark does with training rows that are in a test set: refuse, drop or allow.

    Raises:
        UnknownNameError: no task or set has that name.
        ManifoldLoraError: a data folder is missing or not wanted, or ``style`` or ``limit`` is not allowed.
        DataError: a file is missing or malformed.
        LeakError: a training row is in a test set.
    """
    check_task(name, train=train, tests=tests, leaks=leaks)
    _check_data(name, data)
    if style not in ("equation", "text"):
        raise ManifoldLoraError("prompt style", style, ("equation", "text"))
    if limit is not None and limit < 1:
        raise ManifoldLoraError("limit", limit, "a whole number from 1 up, or none")
    reads = TASKS.facts(name).get("reads", "")
    shared: dict[str, Any] = {"seed": seed, "limit": limit}
    if not reads:
        return TASKS[name](style=style, **shared)
    shared |= {"max_bad_records": max_bad_records, "template": template}
    if reads == "folder":
        return TASKS[name](Path(data or ""), style=style, **shared)
    if style == "equation":
        hint = "the embedded base reads equations only: set model.name (--model NAME)"
        raise ManifoldLoraError(f"style of task {name!r}", style, "text", hint)
    folder = Path(data) if data is not None else None
    return TASKS[name](name, folder, train=names(train), tests=names(tests), leaks=leaks, **shared)


def check_task(
    name: str,
    *,
    train: str | Sequence[str] | None = None,
    tests: str | Sequence[str] | None = None,
    leaks: str = "refuse",
) -> None:
    """Refuse unknown names of tasks and sets before a file is read.

    Raises UnknownNameError or ManifoldLoraError.
    """
    TASKS.check(name)
    if leaks not in ("refuse", "drop", "allow"):
        raise ManifoldLoraError("task.leaks", leaks, ("refuse", "drop", "allow"))
    for key, given, known in (("train", train, TRAIN_SETS), ("tests", tests, TEST_SETS)):
        if names(given) and not is_benchmark(name):
            raise ManifoldLoraError(f"task.{key}", given, f"nothing: task {name!r} has its own")
        for each in names(given):
            if each not in known:
                raise UnknownNameError(f"task.{key}", each, tuple(known))


def is_benchmark(name: str) -> bool:
    """Whether a task's items are questions in plain text, from a data folder or the hub."""
    return TASKS.facts(name).get("reads", "") == "folder or hub"


def _check_data(name: str, data: str | Path | None) -> None:
    reads = TASKS.facts(name).get("reads", "")
    if reads == "folder" and data is None:
        raise ManifoldLoraError(f"data folder of task {name!r}", None, "a folder", "pass DATA=../shared/data")
    if not reads and data is not None:
        allowed = "none: this task generates its items"
        raise ManifoldLoraError(f"data folder of task {name!r}", str(data), allowed)


def names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name or several as a tuple; raises ManifoldLoraError for anything else."""
    found = (given,) if isinstance(given, str) else tuple(given or ()) if _is_list(given) else (given,)
    if not all(isinstance(each, str) for each in found):
        raise ManifoldLoraError("sets of a task", given, "a name or a list of names")
    return tuple(str(each) for each in found)


def _is_list(given: object) -> bool:
    return given is None or isinstance(given, list | tuple)
