"""A preflight by itself: the base, the adapter and a table, and no training."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.ceiling import checked_ceiling
from manifold_lora.experiments.runs.cell import calibration_rows, load_adapted
from manifold_lora.experiments.runs.preflight import preflight
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.runs.single import prepared
from manifold_lora.experiments.settings.methods import needs_gain
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.models.module_geometry import ModuleGeometry


def preflight_alone(run: RunSettings, cache: Path, shown: int, console: Console) -> int:
    """Print what was measured; returns 0, or 1 where something cannot work and ``preflight`` says stop.

    Raises ManifoldLoraError for bad input, and for a task at which a perfect model would not be right.
    """
    if needs_gain(run.adapter.method):
        raise ManifoldLoraError("adapter.method", run.adapter.method, "an arm that stands alone")

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    task = task_of(run.task, run.model.name)
    ready = prepared(run, cache, console)
    adapted = load_adapted(run, ready["base"], task.train, {})
    found = preflight(adapted.model, calibration_rows(adapted, run), run, adapted.geometry)
    if found.modules:
        console.print(module_table(found.modules, shown))
    for line in (found.line(), *found.faults):
        tell(line)
    perfect = checked_ceiling(adapted.model, adapted.tokenizer, task, run, tell, adapted.rows.examples)
    scores = ", ".join(f"{name} {100 * score:.4g} %" for name, score in perfect.scores().items())
    tell(f"a perfect model, in {perfect.max_new_tokens} new tokens: {scores}")
    return 1 if found.faults and run.preflight == "stop" else 0


def module_table(modules: Mapping[str, ModuleGeometry], shown: int) -> Table:
    """The modules with the largest angles, and how many others there are."""
    worst = sorted(modules, key=lambda name: modules[name].angle.largest, reverse=True)[:shown]
    title = f"the {len(worst)} of {len(modules)} modules with the longest tokens"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("module", overflow="fold")
    for name in ("|x|", "a", "a 99 %", "a largest", "beyond limit %", "dose", "gain c", "c largest"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in worst:
        one = modules[name]
        figures = (one.norm.median, *one.angle, 100 * one.capped, one.dose, one.gain.median, one.gain.largest)
        table.add_row(name, *(f"{figure:.3g}" for figure in figures))
    return table
