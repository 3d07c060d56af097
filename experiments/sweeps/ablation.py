"""The driver of an ablation: check everything, prepare the base, run the cells that are not done, report."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Job, Limits
from manifold_lora.experiments.executors.build import build_executor
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.reports.console import literal
from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.runs.cell import run_cell
from manifold_lora.experiments.runs.fingerprint import text_inputs
from manifold_lora.experiments.runs.prepare import prepare, task_of
from manifold_lora.experiments.runs.progress import CellProgress
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import brief, dump_yaml
from manifold_lora.experiments.settings.plugin_sources import plugin_inputs
from manifold_lora.experiments.sweeps.cells import Cell, cells_of
from manifold_lora.experiments.sweeps.grid import Grid, baseline_of
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat
from manifold_lora.experiments.sweeps.sweep import Sweep, work_of

PREPARE = "base"


def ablate(grid: Grid, console: Console) -> int:
    """Run an ablation to its table, then its null if asked; returns 0, or 1 if a cell has no result.

    Everything that can be refused is refused before anything is written: settings, arms, geometries, data
    files, the model, target modules. Cells whose verified result stands in the output folder are not run.
    Several drivers may run the same ablation in one folder; each cell is run by one of them.

    Raises ManifoldLoraError for bad input.
    """
    code, base = _ablated(grid, console)
    if grid.settings.null == "none":
        return code
    from manifold_lora.experiments.sweeps.null import distilled

    return max(code, distilled(grid, console, base, lambda null, shown: _ablated(null, shown)[0]))


def _ablated(grid: Grid, console: Console) -> tuple[int, str]:
    """The exit code, and the folder or hub name of the base."""
    settings = grid.settings
    executor = build_executor(settings)
    _tell(grid, console)
    task = task_of(settings.task, settings.model.name)
    message = (
        f"{task.name}: {len(task.train)} training, {len(task.validation)} validation, "
        + ", ".join(f"{len(items)} {name}" for name, items in task.tests.items())
        + " items"
        + "".join(f"; {name}: {count}" for name, count in task.notes.items())
    )
    console.print(literal(message))
    with CellProgress(console, settings.output / "logs") as progress:
        ready = _prepare(grid, progress)
        outside = plugin_inputs(settings.model_dump(mode="json")) | text_inputs(settings.evaluation.retention)
        inputs = {**task.data_hashes, "base": ready["fingerprint"], **outside}
        cells = cells_of(grid, inputs)
        jobs = [_job(cell, settings, ready["base"], inputs) for cell in cells]
        with DriverHeartbeat(settings.output, work_of(jobs), settings.execution.stale) as driver:
            manifest = Manifest(task.name, baseline_of(settings), tuple(cell.id for cell in cells))
            write_text(settings.output / "ablation.yaml", dump_yaml(settings))
            manifest.write(settings.output)
            Sweep(settings.output, jobs, executor, driver, progress).run()
    return write_report(settings.output, console), ready["base"]


def _tell(grid: Grid, console: Console) -> None:
    lines = (f"settings beside the defaults: {brief(grid.settings)}", grid.summary())
    for line in filter(None, lines):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _prepare(grid: Grid, progress: CellProgress) -> dict[str, str]:
    settings = grid.settings
    # The base belongs to the cache: a refused model must leave nothing in the output folder.
    # One thread: in a model so small they wait for each other more than they compute.
    executor = LocalExecutor(1, Limits(settings.timeout, threads=1), settings.cache / "logs")
    targets = {json.dumps(run.adapter.target_modules) for _, run in grid.runs}
    data = settings.model_dump(mode="json")
    job = Job(PREPARE, prepare, (data, [json.loads(target) for target in sorted(targets)]))
    progress.name({PREPARE: "base model"})
    (outcome,) = executor.run([job], progress.step)
    progress.end(outcome)
    if isinstance(outcome.value, ManifoldLoraError):
        raise outcome.value
    if outcome.status != "ok":
        log = executor.logs / f"{PREPARE}.log"
        raise SystemExit(
            f"the base model could not be prepared: {outcome.status}: {outcome.reason}: see {log}"
        )
    return dict(outcome.value)


def _job(cell: Cell, settings: AblationSettings, base: str, inputs: dict[str, str]) -> Job:
    data, train = plain(cell), cell.run.train
    arguments = (data, str(settings.output.absolute()), base, inputs)
    name = f"{cell.run.arm} lr {train.learning_rate:g} seed {train.seed}"
    return Job(cell.id, run_cell, arguments, cell.needs, settings=data, name=name)


def plain(cell: Cell) -> dict[str, Any]:
    """A cell as JSON data."""
    data = asdict(cell)
    return data | {"run": cell.run.model_dump(mode="json")}
