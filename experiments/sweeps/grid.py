"""A grid over the fields of a run: what may be an axis, and which combinations make a run. Torch-free."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.methods.config import check_adapter
from manifold_lora.experiments.methods.served import check_engine
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.methods import has_geometry, needs_gain
from manifold_lora.experiments.settings.parse import field_names, field_paths, validate
from manifold_lora.experiments.settings.run import AdapterSettings, RunSettings
from manifold_lora.experiments.tasks.registry import check_task, fields_of
from manifold_lora.experiments.training.logs import check_reporters
from manifold_lora.manifolds.plugins import check_installed

Point = dict[str, Any]

# What a method without a geometry does not read.
_GEOMETRY = (
    "manifold",
    "curvature",
    "manifold_pattern",
    "transform",
    "norm_scaling",
    "token_norms",
    "max_angle",
    "calibration_rows",
)
# Base, data and leaks are looked at once for all cells; all other fields of the two blocks decide them.
_OF_A_CELL = ("model.dtype", "model.device", "task.template", "task.completion_only")
# Change no result, so that cells which differ in them alone have one name.
_WITHOUT_EFFECT = ("plugins", "preflight", "train.checkpoint_every", "train.report_to")
# A file, whose content is looked at once for all cells.
_SHARED = ("evaluation.retention",)
_FIRST_FEW = 3
_MOST_POINTS = 20_000


class Refused(NamedTuple):
    """A combination that cannot exist, and why."""

    point: Point
    error: ManifoldLoraError

    def __str__(self) -> str:
        values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in self.point.items())
        return f"{values} ({self.error})"


class Grid:
    """The runs of an ablation's grid: those that can exist, and the combinations that cannot.

    A combination that is refused is left out where each of its values makes a run in some other combination
    which reads it: boost is a transform and the sphere a geometry, so that a grid of both need not have boost
    on Euclidean space. A value that makes a run in none is a fault.

    Args:
        settings: the ablation; grid keys are dotted fields of a run.

    Raises ManifoldLoraError for unknown axes, arms, values or plugins, for more points than anybody runs, and
    for a baseline that is no arm of the grid.
    """

    def __init__(self, settings: AblationSettings) -> None:
        check_installed(settings.plugins)
        check_adapter(settings.adapter)
        self.settings = settings
        self.runs: list[tuple[Point, RunSettings]] = []
        self.left_out: list[Refused] = []
        for point in _points(settings.grid):
            try:
                self.runs.append(_drop_unread_fields(point, self._resolved(point)))
            except ManifoldLoraError as error:
                self.left_out.append(Refused(point, error))
        made = {value for point, _ in self.runs for value in _values(point)}
        for refused in self.left_out:
            if not self.runs or not _values(refused.point) <= made:
                raise refused.error
        check_baseline(settings)

    def summary(self) -> str:
        """A line about what is left out; empty where nothing is."""
        if not self.left_out:
            return ""
        shown = "; ".join(map(str, self.left_out[:_FIRST_FEW]))
        more = "; ..." if len(self.left_out) > _FIRST_FEW else ""
        count = f"{len(self.left_out)} of {len(_points(self.settings.grid))} combinations of the grid"
        return f"left out, since they cannot exist: {count}: {shown}{more}"

    def _resolved(self, point: Point) -> RunSettings:
        run = resolve(self.settings, point)
        if needs_gain(run.adapter.method):
            source(self.settings, run)
        return run


def baseline_of(settings: AblationSettings) -> str:
    """The arm that differences are taken against; where all cells are of one arm, that arm."""
    arms = _arms(settings)
    return arms[0] if len(arms) == 1 else settings.baseline


def check_baseline(settings: AblationSettings) -> None:
    """Raise ManifoldLoraError for a baseline that is no arm, or none of several that the grid has."""
    arms, known = _arms(settings), sorted(settings.all_arms())
    if settings.baseline not in known:
        raise UnknownNameError("baseline", settings.baseline, arms if len(arms) > 1 else known)
    if baseline_of(settings) not in arms:
        hint = (
            f"add {settings.baseline} to grid.arm, or take differences against another: --baseline {arms[0]}"
        )
        raise ManifoldLoraError("baseline", settings.baseline, arms, hint)


def _arms(settings: AblationSettings) -> list[str]:
    return list(dict.fromkeys(settings.grid.get("arm", [settings.arm])))


def _points(grid: Mapping[str, list[Any]]) -> list[Point]:
    fields = field_paths(RunSettings)
    allowed = [path for path in fields if _may_be_an_axis(path)]
    for key in grid:
        if key in allowed:
            continue
        if key in fields:
            hint = (
                "all cells of an ablation share it: write one ablation, with its own output, for each value"
            )
            raise ManifoldLoraError("grid key", key, allowed, hint)
        same_leaf = [f"did you mean {path!r}?" for path in allowed if path.split(".")[-1] == key]
        raise UnknownNameError("grid key", key, allowed, "".join(same_leaf[:1]))
    count = math.prod(len(values) for values in grid.values())
    if count > _MOST_POINTS:
        raise ManifoldLoraError("grid", f"{count} combinations", f"at most {_MOST_POINTS}")
    # Seeds change last and arms first: an ablation that is cut short has whole seeds, and what the machine
    # does in the meantime meets all arms alike.
    order = sorted(grid, key=lambda key: (key == "arm") - (key == "train.seed"))
    axes = [[(key, value) for value in grid[key]] for key in order]
    return [dict(point) for point in itertools.product(*axes)]


def _may_be_an_axis(path: str) -> bool:
    shared = path.startswith(("model.", "task.")) and path not in _OF_A_CELL
    return not shared and path not in (*_WITHOUT_EFFECT, *_SHARED)


def _values(point: Point) -> set[tuple[str, str]]:
    return {(key, repr(value)) for key, value in point.items()}


def resolve(settings: AblationSettings, point: Point) -> RunSettings:
    """The run at a point: base settings, then the arm's fields, then the point's own values.

    Raises ManifoldLoraError for a value that is not allowed there.
    """
    data = {name: settings.model_dump(mode="json")[name] for name in RunSettings.model_fields}
    arms = settings.all_arms()
    data["arm"] = point.get("arm", settings.arm)
    if data["arm"] not in list(arms):
        raise UnknownNameError("arm", data["arm"], sorted(arms))
    data["adapter"] |= _arm_fields(data["arm"], arms[data["arm"]])
    for key, value in point.items():
        block, _, leaf = key.rpartition(".")
        (data[block] if block else data)[leaf] = value
    run = validate(RunSettings, data, f"arm {data['arm']}")
    check_adapter(run.adapter)
    check_reporters(run.train.report_to)
    check_engine(run)
    task = run.task
    check_task(task.name, train=task.train, tests=task.tests, leaks=task.leaks, fields=fields_of(task))
    return run


def _arm_fields(name: str, fields: Any) -> dict[str, Any]:
    allowed = field_names(RunSettings, ("adapter",))
    if not isinstance(fields, dict):
        raise ManifoldLoraError(f"arm {name}", fields, "a mapping of adapter fields")
    for key in fields:
        if key not in allowed:
            raise UnknownNameError(f"key in arm {name}", key, allowed)
    return fields


def _drop_unread_fields(point: Point, run: RunSettings) -> tuple[Point, RunSettings]:
    """Without what its method does not read: LoRA is run once on a grid of curvatures, and stands for all."""
    method = run.adapter.method
    # One that copies a gain has no geometry either, but copies from an arm that does.
    if has_geometry(method) or needs_gain(method):
        return point, run
    defaults = AdapterSettings()
    adapter = run.adapter.model_copy(update={name: getattr(defaults, name) for name in _GEOMETRY})
    unread = {f"adapter.{name}" for name in _GEOMETRY}
    needed = {key: value for key, value in point.items() if key not in unread}
    return needed, run.model_copy(update={"adapter": adapter})


def source(settings: AblationSettings, run: RunSettings) -> RunSettings:
    """The run whose gain a gain-matched one copies: the same point under another arm."""
    arm, arms = run.adapter.gain_from, sorted(settings.all_arms())
    if arm is None:
        raise ManifoldLoraError(f"gain_from of arm {run.arm}", None, arms)
    if arm not in arms:
        raise UnknownNameError(f"gain_from of arm {run.arm}", arm, arms)
    point: Point = {"arm": arm}
    dumped = run.model_dump(mode="json")
    for key in settings.grid:
        block, _, leaf = key.rpartition(".")
        if key != "arm":
            point[key] = dumped[block][leaf] if block else dumped[leaf]
    return resolve(settings, point)
