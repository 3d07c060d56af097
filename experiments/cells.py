"""From a grid to cells: each combination is one resolved run, named by the hash of what it computes."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifold_lora.experiments.adapter import check_adapter
from manifold_lora.experiments.config import AblationSettings, AdapterSettings, RunSettings
from manifold_lora.experiments.run_logs import check_reporters
from manifold_lora.experiments.settings import field_names, field_paths, validate
from manifold_lora.experiments.tasks.registry import check_task
from manifold_lora.manifolds.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.plugins import check_installed

# What a method without a geometry does not read.
_GEOMETRY = ("manifold", "curvature", "manifold_pattern", "transform", "norm_scaling", "token_norms")
# A gain-matched LoRA has none either, but copies from an arm that does.
_WITHOUT_GEOMETRY = ("lora", "dora", "adalora", "prefix", "series", "parallel")


@dataclass(frozen=True)
class Cell:
    """One run of an ablation: id, settings, place in the grid, and the cell whose gain it needs (if any)."""

    id: str
    run: RunSettings
    point: dict[str, Any]
    needs: str | None = None


def expand(settings: AblationSettings, inputs: Mapping[str, str]) -> list[Cell]:
    """All cells of an ablation, each cell after the one it needs.

    Args:
        settings: the ablation; grid keys are dotted fields of a run.
        inputs: content hashes of what the runs read (data files, base model); part of every id, so that
            changed data is never answered from an old result.

    Raises ManifoldLoraError for unknown grid keys, arms or values, before anything runs.
    """
    check_installed(settings.plugins)
    check_adapter(settings.adapter)
    cells: dict[str, Cell] = {}
    points = [_needed(dict(point), _resolve(settings, dict(point))) for point in _points(settings.grid)]
    for point, run in sorted(points, key=lambda pair: pair[1].adapter.gain_from is not None):
        cell = _cell(settings, run, point, inputs)
        if cell.needs is not None and cell.needs not in cells:
            source = _source(settings, run)
            raise ManifoldLoraError(
                f"arm {run.arm} needs the gain of",
                source.arm,
                "an arm of the same grid",
                f"add {source.arm} to grid.arm",
            )
        cells[cell.id] = cell
    return list(cells.values())


def _points(grid: Mapping[str, list[Any]]) -> list[tuple[tuple[str, Any], ...]]:
    allowed = field_paths(RunSettings)
    for key in grid:
        if key not in allowed:
            same_leaf = [f"did you mean {path!r}?" for path in allowed if path.split(".")[-1] == key]
            raise UnknownNameError("grid key", key, allowed, "".join(same_leaf[:1]))
    axes = [[(key, value) for value in values] for key, values in grid.items()]
    return list(itertools.product(*axes))


def _resolve(settings: AblationSettings, point: dict[str, Any]) -> RunSettings:
    """Base settings, then the arm's fields, then the grid's own values."""
    data = {name: settings.model_dump(mode="json")[name] for name in RunSettings.model_fields}
    data["arm"] = point.pop("arm", settings.arm)
    arms = settings.all_arms()
    if data["arm"] not in arms:
        raise UnknownNameError("arm", data["arm"], sorted(arms))
    fields = arms[data["arm"]]
    data["adapter"] |= _arm_fields(data["arm"], fields)
    for key, value in point.items():
        block, _, leaf = key.rpartition(".")
        (data[block] if block else data)[leaf] = value
    run = validate(RunSettings, data, f"arm {data['arm']}")
    check_adapter(run.adapter)
    check_reporters(run.train.report_to)
    check_task(run.task.name, train=run.task.train, tests=run.task.tests, leaks=run.task.leaks)
    return run


def _needed(point: dict[str, Any], run: RunSettings) -> tuple[dict[str, Any], RunSettings]:
    """Without what its method does not read: LoRA is run once on a grid of curvatures, and stands for all."""
    if run.adapter.method not in _WITHOUT_GEOMETRY:
        return point, run
    defaults = AdapterSettings()
    adapter = run.adapter.model_copy(update={name: getattr(defaults, name) for name in _GEOMETRY})
    unread = {f"adapter.{name}" for name in _GEOMETRY}
    needed = {key: value for key, value in point.items() if key not in unread}
    return needed, run.model_copy(update={"adapter": adapter})


def _arm_fields(name: str, fields: Any) -> dict[str, Any]:
    allowed = field_names(RunSettings, ("adapter",))
    if not isinstance(fields, dict):
        raise ManifoldLoraError(f"arm {name}", fields, "a mapping of adapter fields")
    for key in fields:
        if key not in allowed:
            raise UnknownNameError(f"key in arm {name}", key, allowed)
    return fields


def _source(settings: AblationSettings, run: RunSettings) -> RunSettings:
    """The run whose gain is copied: the same cell under another arm."""
    arm = run.adapter.gain_from
    if arm not in settings.all_arms():
        raise UnknownNameError(f"gain_from of arm {run.arm}", arm, sorted(settings.all_arms()))
    point: dict[str, Any] = {"arm": arm}
    dumped = run.model_dump(mode="json")
    for key in settings.grid:
        block, _, leaf = key.rpartition(".")
        if key != "arm":
            point[key] = dumped[block][leaf] if block else dumped[leaf]
    return _resolve(settings, point)


def _cell(
    settings: AblationSettings, run: RunSettings, point: dict[str, Any], inputs: Mapping[str, str]
) -> Cell:
    point = {"arm": run.arm, **point}
    if run.adapter.method != "gain_matched_lora":
        return Cell(cell_id(run, inputs), run, point)
    if run.adapter.gain_from is None:
        raise ManifoldLoraError(f"gain_from of arm {run.arm}", None, sorted(settings.all_arms()))
    needs = cell_id(_source(settings, run), inputs)
    return Cell(cell_id(run, {**inputs, "gain": needs}), run, point, needs)


def cell_id(run: RunSettings, inputs: Mapping[str, str]) -> str:
    """Hash of the canonical settings and of the content they read; neither places on disk nor what is
    written along the way count."""
    data = run.model_dump(mode="json")
    data["task"].pop("data")
    data.pop("plugins")
    for key in ("checkpoint_every", "report_to"):
        data["train"].pop(key)
    # Results from before there were these keep their names.
    for block, key, before in (("evaluation", "num_beams", 1), ("adapter", "lora_bias", False)):
        if data[block][key] == before:
            data[block].pop(key)
    if "base" in inputs:
        data["model"].pop("name")
    text = json.dumps({"run": data, "inputs": dict(inputs)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
