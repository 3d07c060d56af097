"""Names to tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.own import Fields
from manifold_lora.experiments.data.sets import GROUPS, TEST_SETS, TRAIN_SETS
from manifold_lora.experiments.settings.run import EMBEDDED, OWN_SUFFIXES, TaskSettings
from manifold_lora.experiments.tasks.base import Task
from manifold_lora.experiments.tasks.templates import PLAIN, Template
from manifold_lora.registry import Registry

TASKS: Registry[Any] = Registry("task", "manifold_lora.tasks")
_HOME = "manifold_lora.experiments.tasks"
_OWN = "a .jsonl, .json or .csv file"
# reads: nothing (the items are generated), a data folder, a file, a data folder or the hub, or WordNet's
# files: in a folder, or where a package installed them.
TASKS.declare("taxonomy", f"{_HOME}.taxonomy:Taxonomy", reads="")
TASKS.declare("arithmetic", f"{_HOME}.arithmetic:Arithmetic", reads="")
TASKS.declare("word_problems", f"{_HOME}.word_problems:WordProblems", reads="folder")
for _name in ("wordnet", "wordnet_flat"):
    TASKS.declare(_name, f"{_HOME}.wordnet:WordNet", reads="wordnet")
TASKS.declare("own", f"{_HOME}.own:Own", reads="file")
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
    fields: Fields = Fields(),  # noqa: B008 (frozen)
    held_out: float = 0.1,
    chat: Callable[[], Template] | None = None,
) -> Task:
    """The task under ``name``.

    Args:
        name: a name in TASKS.
        data: the data folder; required by word_problems, refused by tasks that generate their items; without
            one, the benchmarks are read from the hub, and WordNet where it is installed.
        seed: of the generated items and splits, not of training.
        style: ``"equation"``, or ``"text"`` for plain prompts to a pre-trained model.
        limit: keep at most so many examples of train, validation and each test set.
        max_bad_records: malformed rows to leave out and count before a file is refused.
        template: how a text prompt is written.
        train: training sets of a benchmark, in place of its own.
        tests: test sets of a benchmark, in place of its own; the test files of an own file.
        leaks: what is done with training rows that are in a test set: refuse, drop or allow.
        fields: the field names of an own file, and how its answers are judged.
        held_out: share of an own file's questions for validation, and for tests where there is no file.
        chat: builds the template of an own file's conversations.

    Raises:
        UnknownNameError: no task or set has that name.
        ManifoldLoraError: a data folder is missing or not wanted, or ``style`` or ``limit`` is not allowed.
        DataError: a file is missing or malformed.
        LeakError: a training row is in a test set.
    """
    check_task(name, train=train, tests=tests, leaks=leaks, fields=fields)
    check_data(name, data)
    if style not in ("equation", "text"):
        raise ManifoldLoraError("prompt style", style, ("equation", "text"))
    if limit is not None and limit < 1:
        raise ManifoldLoraError("limit", limit, "a whole number from 1 up, or none")
    reads = TASKS.metadata(name).get("reads", "")
    shared: dict[str, Any] = {"seed": seed, "limit": limit}
    if not reads:
        return TASKS[name](style=style, **shared)
    shared |= {"max_bad_records": max_bad_records, "template": template}
    if reads == "folder":
        return TASKS[name](Path(data or ""), style=style, **shared)
    if style == "equation":
        hint = "the embedded base reads equations only: set model.name (--model NAME)"
        raise ManifoldLoraError(f"style of task {name!r}", style, "text", hint)
    if reads == "file":
        more = {"fields": fields, "held_out": held_out, "chat": chat}
        return TASKS[name](Path(data or ""), tests=names(tests), leaks=leaks, **more, **shared)
    folder = Path(data) if data is not None else None
    if reads == "wordnet":
        return TASKS[name](name, folder, seed, limit, template)
    return TASKS[name](name, folder, train=names(train), tests=names(tests), leaks=leaks, **shared)


def check_task(
    name: str,
    *,
    train: str | Sequence[str] | None = None,
    tests: str | Sequence[str] | None = None,
    leaks: str = "refuse",
    fields: Fields = Fields(),  # noqa: B008 (frozen)
) -> None:
    """Refuse unknown names of tasks and sets before a file is read.

    Raises UnknownNameError or ManifoldLoraError.
    """
    reads = TASKS.metadata(TASKS.check(name)).get("reads", "")
    if fields != Fields() and reads != "file":
        hint = "pass your own file as task.data (--data FILE)"
        raise ManifoldLoraError(
            "field names of an own file", fields, f"none: task {name!r} has its own", hint
        )
    if leaks not in ("refuse", "drop", "allow"):
        raise ManifoldLoraError("task.leaks", leaks, ("refuse", "drop", "allow"))
    for key, given, known in (("train", train, TRAIN_SETS), ("tests", tests, TEST_SETS)):
        if reads == "file" and key == "tests":
            continue
        if names(given) and reads != "folder or hub":
            raise ManifoldLoraError(f"task.{key}", given, f"nothing: task {name!r} has its own")
        for each in names(given):
            if each not in known:
                raise UnknownNameError(f"task.{key}", each, tuple(known))


def asks_in_text(name: str) -> bool:
    """Whether a task's items are questions in plain text: of WordNet, a data folder, the hub or a file."""
    return TASKS.metadata(name).get("reads", "") in ("folder or hub", "file", "wordnet")


def check_inputs(task: TaskSettings, model: str) -> None:
    """Refuse data that are not there or not wanted, and a model that cannot read the task's text.

    Raises ManifoldLoraError.
    """
    check_data(task.name, task.data)
    own = TASKS.metadata(task.name).get("reads") == "file"
    files = [("task.data", task.data), *(("task.tests", path) for path in names(task.tests) if own)]
    for key, path in files:
        if path is not None and not Path(path).exists():
            hint = "no such file or folder"
            raise ManifoldLoraError(key, str(path), "a folder, or your own file", hint)
    if model == EMBEDDED and asks_in_text(task.name):
        hint = "the embedded base reads generated problems alone"
        raise ManifoldLoraError("model.name", model, f"a pre-trained model for task {task.name!r}", hint)


def check_data(name: str, data: str | Path | None) -> None:
    """Refuse a data folder or file that is missing, or that a task does not read.

    Raises ManifoldLoraError.
    """
    reads, asked = TASKS.metadata(name).get("reads", ""), f"data of task {name!r}"
    if data is None:
        if reads == "folder":
            raise ManifoldLoraError(
                f"data folder of task {name!r}", None, "a folder", "pass DATA=../shared/data"
            )
        if reads == "file":
            raise ManifoldLoraError(asked, None, _OWN, "pass --data FILE")
    elif reads != "file" and Path(data).is_file():
        raise ManifoldLoraError(asked, str(data), "a folder", f"a file of yours: --task own, {_OWN}")
    elif not reads:
        allowed = "none: this task generates its items"
        raise ManifoldLoraError(f"data folder of task {name!r}", str(data), allowed)
    elif reads == "file" and Path(data).suffix not in OWN_SUFFIXES:
        raise ManifoldLoraError(asked, str(data), _OWN)


def fields_of(settings: TaskSettings) -> Fields:
    """The field names of an own file as the settings give them."""
    judge = None if settings.judge == "auto" else settings.judge
    named = (settings.prompt_field, settings.target_field, settings.answer_field, settings.choices_field)
    return Fields(*named, judge)


def names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name or several as a tuple; raises ManifoldLoraError for anything else."""
    found = (given,) if isinstance(given, str) else tuple(given or ()) if _is_list(given) else (given,)
    if not all(isinstance(each, str) for each in found):
        raise ManifoldLoraError("sets of a task", given, "a name or a list of names")
    return tuple(str(each) for each in found)


def _is_list(given: object) -> bool:
    return given is None or isinstance(given, list | tuple)
