"""One adapter by hand: train it and save it, load it and evaluate it."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from manifold_lora.experiments.atomic import write_text
from manifold_lora.experiments.cells import cell_id
from manifold_lora.experiments.config import AblationSettings, RunSettings
from manifold_lora.experiments.device import device_of, is_first
from manifold_lora.experiments.prepare import prepare, task_of
from manifold_lora.experiments.run_logs import RunLogs
from manifold_lora.experiments.settings import dump_yaml
from manifold_lora.manifolds.errors import ManifoldLoraError

SETTINGS, ADAPTER, BASE = "run.yaml", "adapter", "base.json"


def train(run: RunSettings, output: Path, cache: Path, console: Console) -> int:
    """Train one adapter, save it under ``output/adapter`` with its settings, and print its scores.

    Interrupted, it goes on from its newest checkpoint when the same settings are run again. Returns 0, or 1
    if it diverged: then nothing but the reason is saved.
    """
    from manifold_lora.experiments.divergence import DivergedError
    from manifold_lora.experiments.run import checkpoints_of, header, load_adapted, train_and_evaluate
    from manifold_lora.models.checkpoint import save_adapter

    if run.adapter.method == "gain_matched_lora":
        raise ManifoldLoraError(
            "adapter.method", "gain_matched_lora", "an arm that stands alone", "use ablate"
        )
    task = task_of(run.task, run.model.name)
    with Progress(console=console) as bar:
        line = bar.add_task("base model")
        data = AblationSettings(**dict(run), cache=cache).model_dump(mode="json")
        ready = prepare(
            data,
            [run.adapter.target_modules],
            lambda step, steps: bar.update(line, completed=step, total=steps),
        )
        bar.reset(line, description="training")
        inputs = {**task.data_hashes, "base": ready["fingerprint"]}
        checkpoints = checkpoints_of(output, cell_id(run, inputs))
        model, tokenizer = load_adapted(run, ready["base"], task.train, {})
        try:
            record, items = train_and_evaluate(
                model,
                tokenizer,
                task,
                run,
                lambda step, steps: bar.update(line, completed=step, total=steps),
                checkpoints,
                RunLogs(output / "logs", "train"),
            )
        except DivergedError as error:
            _save(output / "result.json", {"status": error.status, "reason": str(error)}, [])
            bar.stop()
            console.print(f"diverged: {error}", markup=False, highlight=False, soft_wrap=True)
            return 1
    if not is_first():
        return 0
    save_adapter(model, output / ADAPTER, tokenizer, record["geometry"]["gain"])
    write_text(output / SETTINGS, dump_yaml(run))
    write_text(output / BASE, json.dumps(ready) + "\n")
    _save(output / "result.json", {"status": "ok", **record, "meta": header(task, inputs)}, items)
    checkpoints.clear()
    _tell_resumed(record["train"], console)
    console.print(_table(record["evaluation"], f"{run.arm} on {task.name}"))
    console.print(f"adapter in {output / ADAPTER}")
    return 0


def evaluate(run: RunSettings, folder: Path, console: Console) -> int:
    """Evaluate the adapter saved in ``folder`` and write ``folder/evaluation.json``."""
    from manifold_lora.experiments.prepare import fingerprint
    from manifold_lora.experiments.run import evaluate_sets
    from manifold_lora.models.load import load_adapter, load_base

    ready = _base_of(folder)
    task = task_of(run.task, run.model.name)
    model, tokenizer = load_base(ready["base"], dtype=run.model.dtype, device=device_of(run.model.device))
    found = fingerprint(ready["base"], getattr(model.config, "_commit_hash", None))
    if found != ready["fingerprint"]:
        raise ManifoldLoraError(
            "base model", found, ready["fingerprint"], "the adapter was trained on other weights"
        )
    adapted = load_adapter(str(folder / ADAPTER), model)
    evaluation, items = evaluate_sets(adapted, tokenizer, task, run)
    _save(folder / "evaluation.json", {"evaluation": evaluation}, items)
    console.print(_table(evaluation, f"{run.arm} on {task.name}"))
    return 0


def _base_of(folder: Path) -> dict[str, str]:
    """Where the base of a training folder is, and the fingerprint of its content."""
    path = folder / BASE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {"base": str(data["base"]), "fingerprint": str(data["fingerprint"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"{type(error).__name__}: {error}"
        allowed = "what manifold-lora train wrote"
        raise ManifoldLoraError("base of adapter", str(path), allowed, hint) from error


def _tell_resumed(training: dict[str, Any], console: Console) -> None:
    for reason in training["set_aside"]:
        console.print(f"checkpoint set aside: {reason}", markup=False, highlight=False)
    if training["resumed_from"]:
        console.print(f"resumed from step {training['resumed_from']}")


def _save(path: Path, record: dict[str, Any], items: list[dict[str, Any]]) -> None:
    write_text(
        path, json.dumps({**record, "items": items}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def _table(evaluation: dict[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("set", "items", "accuracy %", "seconds"):
        table.add_column(name, justify="right")
    for name, entry in evaluation.items():
        table.add_row(name, str(entry["items"]), f"{100 * entry['accuracy']:.1f}", f"{entry['seconds']:.1f}")
    return table
