"""From a grid to cells: each combination is one resolved run, named by the hash of what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.methods import needs_gain
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.sweeps.grid import Grid, source


@dataclass(frozen=True)
class Cell:
    """One run of an ablation: id, settings, place in the grid, and the cell whose gain it needs (if any)."""

    id: str
    run: RunSettings
    point: dict[str, Any]
    needs: str | None = None


def expand(settings: AblationSettings, inputs: Mapping[str, str]) -> list[Cell]:
    """`cells_of` the settings' grid. Raises ManifoldLoraError as `Grid` does."""
    return cells_of(Grid(settings), inputs)


def cells_of(grid: Grid, inputs: Mapping[str, str]) -> list[Cell]:
    """All cells of a grid, each cell after the one it needs.

    Args:
        grid: the runs that can exist.
        inputs: content hashes of what the runs read (data files, base model); part of every id, so that
            changed data is never answered from an old result.

    Raises ManifoldLoraError for an arm that needs another which the grid lacks.
    """
    cells: dict[str, Cell] = {}
    seeds = list(dict.fromkeys(run.train.seed for _, run in grid.runs))
    for point, run in sorted(grid.runs, key=lambda pair: _turn(pair[1], seeds)):
        cell = _cell(grid.settings, run, point, inputs)
        if cell.needs is not None and cell.needs not in cells:
            raise ManifoldLoraError(
                f"arm {run.arm} needs the gain of",
                run.adapter.gain_from,
                "an arm of the same grid",
                f"add {run.adapter.gain_from} to grid.arm",
            )
        cells[cell.id] = cell
    return list(cells.values())


def _turn(run: RunSettings, seeds: list[int]) -> tuple[int, bool]:
    """Seed by seed, and in each the arms that take a gain after those that give it."""
    return seeds.index(run.train.seed), run.adapter.gain_from is not None


def _cell(
    settings: AblationSettings, run: RunSettings, point: dict[str, Any], inputs: Mapping[str, str]
) -> Cell:
    point = {"arm": run.arm, **point}
    if not needs_gain(run.adapter.method):
        return Cell(cell_id(run, inputs), run, point)
    needs = cell_id(source(settings, run), inputs)
    return Cell(cell_id(run, {**inputs, "gain": needs}), run, point, needs)
