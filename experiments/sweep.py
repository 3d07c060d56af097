"""The driver of an ablation: check everything, prepare the base, run the cells that are not done, report."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from manifold_lora.experiments.atomic import write_text
from manifold_lora.experiments.cells import Cell, expand
from manifold_lora.experiments.config import AblationSettings
from manifold_lora.experiments.executor import Job, LocalExecutor, Outcome
from manifold_lora.experiments.ledger import Ledger
from manifold_lora.experiments.manifest import Manifest
from manifold_lora.experiments.prepare import prepare, task_of
from manifold_lora.experiments.progress import CellProgress
from manifold_lora.experiments.report import write_report
from manifold_lora.experiments.run import run_cell
from manifold_lora.experiments.settings import dump_yaml
from manifold_lora.manifolds.errors import ManifoldLoraError

PREPARE = "base"


def ablate(settings: AblationSettings, console: Console) -> int:
    """Run an ablation to its table; returns the exit code: 0, or 1 if a cell has no result.

    Everything that can be refused is refused before anything is written: settings, arms, geometries, data
    files, the model, target modules. Cells whose verified result stands in the output folder are not run.

    Raises ManifoldLoraError for bad input.
    """
    drafts = expand(settings, {})
    task = task_of(settings.task, settings.model.name)
    console.print(
        f"{task.name}: {len(task.train)} training, {len(task.validation)} validation, "
        + ", ".join(f"{len(items)} {name}" for name, items in task.tests.items())
        + " items"
        + "".join(f"; {name}: {count}" for name, count in task.notes.items())
    )
    with CellProgress(console) as progress:
        ready = _prepare(settings, drafts, progress)
        inputs = {**task.data_hashes, "base": ready["fingerprint"]}
        cells = expand(settings, inputs)
        with _only_driver(settings.output):
            manifest = Manifest(task.name, settings.baseline, tuple(cell.id for cell in cells))
            write_text(settings.output / "ablation.yaml", dump_yaml(settings))
            manifest.write(settings.output)
            _run(cells, settings, ready["base"], inputs, progress)
    return write_report(settings.output, console)


def _prepare(settings: AblationSettings, drafts: Sequence[Cell], progress: CellProgress) -> dict[str, str]:
    # The base belongs to the cache: a refused model must leave nothing in the output folder.
    executor = LocalExecutor(1, settings.timeout, settings.cache / "logs")
    targets = {json.dumps(draft.run.adapter.target_modules) for draft in drafts}
    data = settings.model_dump(mode="json")
    job = Job(PREPARE, prepare, (data, [json.loads(target) for target in sorted(targets)]))
    progress.begin({PREPARE: "base model"})
    outcome = next(executor.run([job], progress.step))
    progress.end(outcome)
    if outcome.status == "refused":
        raise outcome.value
    if outcome.status != "ok":
        raise SystemExit(f"the base model could not be prepared: see {executor.logs / PREPARE}.log")
    return dict(outcome.value)


def _only_driver(output: Path) -> AbstractContextManager[object]:
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / ".driver.lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout:
        raise ManifoldLoraError(
            "output folder",
            str(output),
            "a folder no other driver works in",
            "wait for it or give another --output",
        ) from None


def _run(
    cells: Sequence[Cell],
    settings: AblationSettings,
    base: str,
    inputs: dict[str, str],
    progress: CellProgress,
) -> None:
    executor = LocalExecutor(settings.jobs, settings.timeout, settings.output / "logs")
    ledger = Ledger(settings.output)
    todo = [cell for cell in cells if not ledger.done(cell.id)]
    by_id = {cell.id: cell for cell in todo}
    jobs = [
        Job(cell.id, run_cell, (plain(cell), str(settings.output), base, inputs), cell.needs) for cell in todo
    ]
    progress.begin({cell.id: _name(cell) for cell in todo}, done=len(cells) - len(todo), total=len(cells))
    for outcome in executor.run(jobs, progress.step):
        _record(ledger, by_id[outcome.id], outcome)
        progress.end(outcome)


def _record(ledger: Ledger, cell: Cell, outcome: Outcome) -> None:
    if outcome.status == "ok" and ledger.done(cell.id):
        return
    reason = outcome.reason or "the process ended well but left no valid result"
    status = "failed" if outcome.status == "ok" else outcome.status
    ledger.write(cell.id, {"status": status, "reason": reason, "seconds": outcome.seconds, **plain(cell)})


def plain(cell: Cell) -> dict[str, Any]:
    """A cell as JSON data."""
    data = asdict(cell)
    return data | {"run": cell.run.model_dump(mode="json")}


def _name(cell: Cell) -> str:
    train = cell.run.train
    return f"{cell.run.arm} lr {train.learning_rate:g} seed {train.seed}"
