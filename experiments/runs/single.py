"""One adapter by hand: train it and save it, load it and evaluate it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Outcome
from manifold_lora.experiments.executors.interrupt import print_when_interrupted
from manifold_lora.experiments.executors.progress import shown_on
from manifold_lora.experiments.methods.served import check_engine
from manifold_lora.experiments.reports.console import literal
from manifold_lora.experiments.results.accuracy import percent
from manifold_lora.experiments.runs.fingerprint import fingerprint, text_inputs
from manifold_lora.experiments.runs.folder import ADAPTER, EVALUATION, LOGS, RunFolder
from manifold_lora.experiments.runs.prepare import prepare, task_of
from manifold_lora.experiments.runs.progress import ANSWERING, CellProgress
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.methods import needs_gain
from manifold_lora.experiments.settings.parse import brief
from manifold_lora.experiments.settings.plugin_sources import plugin_inputs
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Task
from manifold_lora.experiments.training.device import is_first
from manifold_lora.experiments.training.logs import RunLogs
from manifold_lora.models.content import content_sha256

_BASE, _TRAINING = "base", "train"


def train(run: RunSettings, output: Path, cache: Path, console: Console) -> int:
    """Train one adapter, save it under ``output/adapter`` with its settings, and print its scores.

    Interrupted, it goes on from its newest checkpoint when the same settings are run again; finished, it is
    not trained again. Returns 0, or 1 if it diverged: then the settings and the reason are saved, no adapter.

    Raises ManifoldLoraError for bad input, which a folder with a finished run of other settings is.
    """
    from manifold_lora.experiments.runs.cell import checkpoints_of, header, load_adapted, train_and_evaluate
    from manifold_lora.experiments.training.divergence import DivergedError
    from manifold_lora.models.saved.save import save_adapter

    if needs_gain(run.adapter.method):
        raise ManifoldLoraError(
            "adapter.method", run.adapter.method, "an arm that stands alone", "use ablate"
        )
    folder, tell = RunFolder(output), _teller(console)
    task = task_of(run.task, run.model.name)
    tell(f"settings beside the defaults: {brief(run)}")
    with CellProgress(console if is_first() else Console(quiet=True), output / LOGS) as progress:
        progress.name({_BASE: "base model", _TRAINING: run.arm})
        ready = _prepared(run, cache, progress)
        outside = plugin_inputs(run.model_dump(mode="json")) | text_inputs(run.evaluation.retention)
        inputs = {**task.data_hashes, "base": ready["fingerprint"], **outside}
        if folder.finished(run, inputs):
            tell(f"{output} holds this run already, finished; remove it to train again")
            console.print(_table(folder.result()["evaluation"], f"{run.arm} on {task.name}"))
            return 0
        checkpoints = checkpoints_of(output, cell_id(run, inputs))
        adapted = load_adapted(run, ready["base"], task.train, {})
        if is_first():
            folder.begin(run, ready, header(task, inputs))
        try:
            with print_when_interrupted(checkpoints.summary):
                record, items = train_and_evaluate(
                    adapted,
                    task,
                    run,
                    partial(progress.step, _TRAINING),
                    checkpoints,
                    RunLogs(output / LOGS, _TRAINING),
                    tell,
                )
        except DivergedError as error:
            if is_first():
                folder.end({"status": error.status, "reason": str(error)}, [])
            tell(f"diverged: {error}")
            return 1
    if not is_first():
        return 0
    save_adapter(adapted.model, output / ADAPTER, adapted.tokenizer, record["geometry"]["gain"])
    folder.end({"status": "ok", **record}, items)
    checkpoints.clear()
    _tell_resumed(record["train"], tell)
    console.print(_table(record["evaluation"], f"{run.arm} on {task.name}"))
    console.print(literal(f"adapter in {output / ADAPTER}"))
    return 0


def prepared(run: RunSettings, cache: Path, console: Console) -> dict[str, str]:
    """The base model of a run by itself: ``base`` and ``fingerprint``."""
    with CellProgress(console, cache / LOGS) as progress:
        progress.name({_BASE: "base model"})
        return _prepared(run, cache, progress)


def _prepared(run: RunSettings, cache: Path, progress: CellProgress) -> dict[str, str]:
    data = AblationSettings(**dict(run), cache=cache).model_dump(mode="json")
    targets = [run.adapter.target_modules]
    ready = prepare(data, targets, lambda step, steps: progress.step(_BASE, step, steps))
    progress.end(Outcome(_BASE, "ok"))
    return ready


def _teller(console: Console) -> Callable[[str], None]:
    """Prints a line as it is; nothing in the later ones of several processes."""

    def tell(line: str) -> None:
        if is_first():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return tell


def evaluate(run: RunSettings, output: Path, console: Console) -> int:
    """Evaluate the adapter of the finished run in ``output`` and write ``output/evaluation.json``.

    Raises ManifoldLoraError for a run that has not ended well, or a base that is not the one it had.
    """
    from manifold_lora.experiments.runs.ceiling import checked_ceiling
    from manifold_lora.experiments.training.base_model import load_model
    from manifold_lora.models.load import load_adapter

    folder = RunFolder(output)
    folder.check_finished()
    ready = folder.base()
    task = task_of(run.task, run.model.name)
    model, tokenizer = load_model(run.model, ready["base"])
    found = fingerprint(ready["base"], getattr(model.config, "_commit_hash", None))
    if found != ready["fingerprint"]:
        raise ManifoldLoraError(
            "base model", found, ready["fingerprint"], "the adapter was trained on other weights"
        )
    perfect = checked_ceiling(model, tokenizer, task, run, _teller(console))
    adapted = load_adapter(str(output / ADAPTER), model)
    inputs = {"base": found, "adapter": content_sha256(output / ADAPTER)}
    record = _answered(adapted, tokenizer, task, run, perfect.max_new_tokens, inputs, console)
    folder.write(EVALUATION, record)
    console.print(_table(record["evaluation"], f"{run.arm} on {task.name}"))
    return 0


def evaluate_base(run: RunSettings, output: Path | None, cache: Path, console: Console) -> int:
    """Answer the task by the base model as it is, print the scores, and write them if there is an output.

    ``output/evaluation.json`` and ``base.json`` are those of ``evaluate`` and ``train``, without an adapter.
    Raises ManifoldLoraError for bad input, and where a perfect model would not be right everywhere, unless
    ``preflight`` is warn.
    """
    from manifold_lora.experiments.runs.ceiling import checked_ceiling
    from manifold_lora.experiments.training.base_model import load_model

    task = task_of(run.task, run.model.name)
    ready = prepared(run, cache, console)
    model, tokenizer = load_model(run.model, ready["base"])
    perfect = checked_ceiling(model, tokenizer, task, run, _teller(console))
    inputs = {"base": ready["fingerprint"]}
    record = _answered(model, tokenizer, task, run, perfect.max_new_tokens, inputs, console)
    console.print(_table(record["evaluation"], f"{run.model.name} on {task.name}"))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(output)
        folder.write_base(ready)
        folder.write(EVALUATION, record)
    return 0


def _answered(
    model: Any,
    tokenizer: Any,
    task: Task,
    run: RunSettings,
    limit: int,
    inputs: dict[str, str],
    console: Console,
) -> dict[str, Any]:
    """Answer the task's sets, shown on the console; returns what ``evaluation.json`` holds."""
    check_engine(run)
    from manifold_lora.experiments.runs.cell import header
    from manifold_lora.experiments.runs.evaluate import evaluate_sets

    with shown_on(console) as shown:
        evaluation, items = evaluate_sets(
            model, tokenizer, task, run, limit, lambda name, *at: shown.move("items", ANSWERING + name, *at)
        )
    meta = header(task, task.data_hashes | inputs)
    return {"run": run.model_dump(mode="json"), "evaluation": evaluation, "meta": meta, "items": items}


def _tell_resumed(training: dict[str, Any], tell: Callable[[str], None]) -> None:
    for reason in training["set_aside"]:
        tell(f"checkpoint set aside: {reason}")
    if training["resumed_from"]:
        tell(f"resumed from step {training['resumed_from']}")


def _table(evaluation: dict[str, Any], title: str) -> Table:
    table = Table(title=literal(title), title_justify="left")
    for name in ("set", "items", "accuracy %", "cut", "nats a gold text", "seconds"):
        table.add_column(name, justify="right")
    for name, entry in evaluation.items():
        nll = "" if entry.get("nll") is None else f"{entry['nll']:.3g}"
        cut = str(entry.get("truncated", ""))
        seconds = f"{entry['seconds']:.1f}"
        table.add_row(literal(name), str(entry["items"]), percent(entry["accuracy"]), cut, nll, seconds)
    return table
