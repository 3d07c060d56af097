"""``ablate --null distilled``: the same ablation where the truth is what its best norm-blind student says."""

from collections.abc import Callable

from rich.console import Console

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Job, Limits
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.reports.console import literal
from manifold_lora.experiments.reports.csv_files import csv_text
from manifold_lora.experiments.reports.null import Excess, best_blind, excesses, standing
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.runs.label import label
from manifold_lora.experiments.runs.progress import CellProgress
from manifold_lora.experiments.sweeps.grid import Grid

FOLDER, LABEL = "null", "label"
_COLUMNS = ("arm", "test", "control", "role", "lead", "null_lead", "excess", "low", "high", "p", "exceeds")


def distilled(grid: Grid, console: Console, base: str, run: Callable[[Grid, Console], int]) -> int:
    """Relabel by the student, run every cell again under ``null/`` and compare the leads in ``null.csv``.

    The student is the arm blind to norms that is best on validation, at its chosen rate and first seed; its
    labels are kept, so that the same command goes on where it was. Where the truth itself is blind to norms
    no lead comes from one: what an arm has there comes from labels that are decided, not drawn, and a
    published lead must exceed it (MATH.md section 10).

    Args:
        grid: of the ablation, which has run.
        console: where lines go.
        base: folder or hub name of the base model.
        run: runs the ablation of a grid, report included.

    Returns the null's exit code. Raises ManifoldLoraError where no such arm finished or labelling failed.
    """
    settings = grid.settings
    student = best_blind(Study.read(settings.output).rows)
    record = student.chosen.records[min(student.chosen.records)]
    path = settings.output / FOLDER / f"labels-{record['cell']}.json"
    if not path.exists():
        console.print(literal(f"null: {student.label} at {student.chosen.value:g} answers every item"))
        cell = {"id": record["cell"], "run": record["run"], "needs": record.get("needs")}
        job = Job(LABEL, label, (cell, str(settings.output.absolute()), base, str(path.absolute())))
        executor = LocalExecutor(
            1, Limits(settings.timeout, threads=settings.execution.threads), path.parent / "logs"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with CellProgress(console, executor.logs) as progress:
            progress.name({LABEL: "labels of the null"})
            (outcome,) = executor.run([job], progress.step)
        if outcome.status != "ok":
            raise ManifoldLoraError("labels of the null", outcome.status, "ok", outcome.reason)
    task = settings.task.model_copy(update={"labels": path})
    update = {"task": task, "output": settings.output / FOLDER, "null": "none"}
    code = run(Grid(settings.model_copy(update=update)), console)
    rows = Study.read(settings.output).rows
    found = excesses(rows, Study.read(settings.output / FOLDER).rows)
    write_text(settings.output / "null.csv", csv_text(map(_line, found)))
    for line in [*(one.line() for one in found), *standing(rows, found)]:
        console.print(literal(line))
    return code


def _line(one: Excess) -> dict[str, object]:
    crossed = one.crossed
    mean, half = float(crossed.mean), float(crossed.half_width(0.05))
    leads = one.real.difference.mean, one.null.difference.mean
    span = mean, mean - half, mean + half, float(crossed.p_values())
    figures = (one.arm, one.real.test, one.real.other, one.real.role, *leads, *span, one.exceeds)
    return dict(zip(_COLUMNS, figures, strict=True))
