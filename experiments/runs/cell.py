"""One cell: put the adapter on the base, train it, answer every item, write the result."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.calibration import calibrate
from manifold_lora.experiments.methods.config import peft_config, wanted_dose
from manifold_lora.experiments.results.accuracy import accuracy
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.runs.progress import ANSWERING
from manifold_lora.experiments.settings.methods import has_geometry
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.training.base_model import load_model
from manifold_lora.experiments.training.clock import clock_of
from manifold_lora.experiments.training.device import processes
from manifold_lora.experiments.training.logs import RunLogs

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from manifold_lora.experiments.tasks.base import Example, Task
    from manifold_lora.experiments.training.checkpoints import Checkpoints
    from manifold_lora.experiments.training.early_stopping import EarlyStopping
    from manifold_lora.experiments.training.encoding import TrainingRows
    from manifold_lora.models.module_geometry import ModuleGeometry

PACKAGES = ("manifold-lora", "torch", "transformers", "peft", "accelerate", "datasets", "numpy")
GAIN_EXAMPLES = 8
# Where the adapter is not calibrated, its geometry is measured on this many training rows all the same.
MEASURED_ROWS = 8


class Adapted(NamedTuple):
    """A base model with an untrained adapter, its tokenizer, and what the adapter is going to learn from.

    ``geometry`` is what calibration measured on ``calibration_rows``; None where nothing was calibrated.
    """

    model: "PeftModel"
    tokenizer: "PreTrainedTokenizerBase"
    rows: "TrainingRows"
    geometry: "dict[str, ModuleGeometry] | None" = None


def run_cell(
    cell: dict[str, Any], folder: str, base: str, inputs: dict[str, str], progress: Callable[..., None]
) -> None:
    """Train and evaluate one cell and write its result to the store of ``folder``.

    A cell that was interrupted goes on from its newest checkpoint that verifies, if it wrote any; they are
    removed when the result is written.

    Args:
        cell: ``{"id", "run", "point", "needs"}`` of a Cell, as plain data.
        folder: the ablation's output folder.
        base: folder or hub name of the base model.
        inputs: content hashes that go into the result's header.
        progress: called with (step, steps), and then with (items, of all, what is answered).
    """
    store = ResultStore(Path(folder))
    run = validate(RunSettings, cell["run"], f"cell {cell['id']}")
    task = task_of(run.task, run.model.name)
    adapted = load_adapted(run, base, task.train, gains_of(store, cell["needs"]))
    checkpoints, logs = checkpoints_of(Path(folder), cell["id"]), RunLogs(Path(folder) / "logs", cell["id"])
    record, items = train_and_evaluate(adapted, task, run, progress, checkpoints, logs)
    meta = header(task, inputs)
    store.write(cell["id"], {"status": "ok", "reason": "", **cell, **record, "meta": meta}, items)
    checkpoints.clear()


def header(task: "Task", inputs: dict[str, str]) -> dict[str, Any]:
    """What a result was made from: content hashes (or a hub model's commit), versions, rows left out."""
    versions = {name: version(name) for name in PACKAGES}
    return {"inputs": inputs, "versions": versions, "notes": task.notes}


def checkpoints_of(folder: Path, cell: str) -> "Checkpoints":
    """The checkpoints of one cell under an output folder."""
    from manifold_lora.experiments.training.checkpoints import Checkpoints

    return Checkpoints(folder / "checkpoints" / cell)


def gains_of(store: ResultStore, needs: str | None) -> dict[str, float]:
    """Module -> gain of the cell that another one needs; empty where it needs none."""
    if needs is None:
        return {}
    record = store.read(needs)
    if record is None or not record["geometry"]["gain"]:
        raise ManifoldLoraError("gain of cell", needs, "a finished cell of a manifold_lora arm")
    return dict(record["geometry"]["gain"])


def load_adapted(run: RunSettings, base: str, examples: "list[Example]", gains: dict[str, float]) -> Adapted:
    """The base model with the run's untrained adapter, seeded by the run's seed.

    Args:
        examples: what the adapter is going to learn from, and its curvature under ``{mode: data}``.

    Raises ManifoldLoraError where most of the examples are too long, or as ``models.calibrate`` does.
    """
    from transformers import set_seed

    from manifold_lora.experiments.training.encoding import training_rows
    from manifold_lora.models.tuner.apply import adapt

    model, tokenizer = load_model(run.model, base)
    rows = training_rows(tokenizer, examples, run.train.max_length)
    run = in_steps(run, len(rows))
    kappas = calibrate(run.adapter, model, tokenizer, rows.examples, run.train.seed)
    set_seed(run.train.seed)
    config = peft_config(run.adapter, gains, kappas, run.train.steps, run.train.seed)
    adapted = Adapted(adapt(model, config), tokenizer, rows)
    return adapted._replace(geometry=_start_scales(adapted, run))


def _start_scales(adapted: Adapted, run: RunSettings) -> "dict[str, ModuleGeometry] | None":
    """The norm scalings' s, and kappa where a dose is asked for, from a few training rows."""
    from manifold_lora.models.calibration import calibrate as start

    if not has_geometry(run.adapter.method) or not run.adapter.calibration_rows:
        return None
    dose = wanted_dose(run.adapter)
    batches = [calibration_rows(adapted, run)]
    if dose is None:
        return start(adapted.model, batches)
    return start(adapted.model, batches, dose=dose.share, out_of_reach=dose.out_of_reach)


def calibration_rows(adapted: Adapted, run: RunSettings) -> dict[str, Any]:
    """The batch of training rows that the geometry is calibrated and measured on, drawn by the run's seed."""
    from manifold_lora.experiments.runs.preflight import calibration_batch

    count = run.adapter.calibration_rows or MEASURED_ROWS
    return calibration_batch(adapted.tokenizer, adapted.rows.encoded, count, run.train.seed)


def train_and_evaluate(
    adapted: Adapted,
    task: "Task",
    run: RunSettings,
    progress: Callable[..., None],
    checkpoints: "Checkpoints | None" = None,
    logs: RunLogs | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train, then answer validation and every test set; returns the result's record and per-item outputs.

    ``tell`` gets a line about training rows that are left out as too long, which epochs do not count. Raises
    ManifoldLoraError where a perfect model would not be right everywhere, unless ``preflight`` is warn.
    """
    from manifold_lora.experiments.runs.ceiling import checked_ceiling
    from manifold_lora.experiments.runs.evaluate import evaluate_sets
    from manifold_lora.experiments.runs.preflight import dose_summary, preflight
    from manifold_lora.experiments.runs.retention import Retention
    from manifold_lora.experiments.training.gain_probe import GainProbe
    from manifold_lora.experiments.training.options import FitOptions
    from manifold_lora.experiments.training.train import fit
    from manifold_lora.models.geometry_log import effective_kappa, effective_scale, token_gates
    from manifold_lora.models.module_geometry import measure_geometry
    from manifold_lora.models.tuner.frames import frame_drift

    model, tokenizer, rows, calibrated = adapted
    if rows.left_out:
        tell(rows.left_out_line(run.train.max_length))
    run = in_steps(run, len(rows))
    perfect = checked_ceiling(model, tokenizer, task, run, tell, rows.examples)
    probe = GainProbe(model, tokenizer, task.validation[:GAIN_EXAMPLES], run.train.steps)

    def on_step(step: int, _: float) -> None:
        probe(step)
        progress(step, run.train.steps)

    batch = calibration_rows(adapted, run)
    before = preflight(model, batch, run, calibrated)
    tell(before.line())
    if run.preflight == "stop":
        before.check()
    for fault in before.faults:
        tell(f"preflight: {fault}")
    kept = Retention.of_base(model, tokenizer, task, run)
    probe(0)
    stopping = _early_stopping(model, tokenizer, task, run, perfect.max_new_tokens)
    options = FitOptions(on_step, checkpoints, probe, run.adapter.lora_plus_ratio, logs, stopping)
    report = fit(model, tokenizer, rows.encoded, run.train, options)
    doses = {}
    if before.modules:
        after = measure_geometry(model, [batch])
        doses = {"start": dose_summary(before.modules), "end": dose_summary(after)}

    def on_items(name: str, done: int, total: int) -> None:
        progress(done, total, ANSWERING + name)

    evaluation, items = evaluate_sets(model, tokenizer, task, run, perfect.max_new_tokens, on_items)
    retention = kept.record(model) if kept else {}
    answered = sum(entry["items"] for entry in evaluation.values())
    cost = {
        "train_seconds": report.seconds,
        "tokens_per_second": report.tokens_per_second,
        "seconds_per_item": sum(entry["seconds"] for entry in evaluation.values()) / max(answered, 1),
        "clock": clock_of(model.device),
        "peak_memory_mb": report.peak_memory_mb,
        "forgetting": retention.get("forgetting"),
        **adapter_size(model),
    }
    record = {
        "train": {
            "losses": report.losses,
            "tokens": report.tokens,
            "left_out": rows.left_out,
            "resumed_from": report.resumed_from,
            "set_aside": list(report.set_aside),
            **({"early_stopping": stopping.record()} if stopping else {}),
        },
        "seeds": seeds(run),
        "ceiling": perfect.scores(),
        "evaluation": evaluation,
        "retention": retention,
        "cost": cost,
        "geometry": {
            "gain": probe.median(),
            "kappa": effective_kappa(model),
            "s": effective_scale(model),
            "gate": token_gates(model),
            "drift": frame_drift(model),
            "dose": doses,
            "preflight": before.to_dict(),
        },
    }
    return record, items


def _early_stopping(
    model: "PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    task: "Task",
    run: RunSettings,
    max_new_tokens: int,
) -> "EarlyStopping | None":
    from manifold_lora.experiments.runs.evaluate import evaluate
    from manifold_lora.experiments.training.early_stopping import EarlyStopping
    from manifold_lora.experiments.training.validation import ValidationLoss

    settings, answers = run.train, run.evaluation
    if not settings.early_stopping:
        return None

    def wrong() -> float:
        size, beams = answers.batch_size, answers.num_beams
        results = evaluate(model, tokenizer, task, task.validation, size, max_new_tokens, beams)
        return 1.0 - accuracy({result.id: result.correct for result in results})

    by_loss = settings.validate_by == "loss"
    score = ValidationLoss.of(model, tokenizer, task.validation, settings.batch_size) if by_loss else wrong
    return EarlyStopping(score, settings.validate_every, settings.early_stopping)


def in_steps(run: RunSettings, examples: int) -> RunSettings:
    """The run with its length in steps, where it is given in epochs of so many examples."""
    if run.train.epochs is None:
        return run
    steps = max(1, round(run.train.epochs * examples / (_rows_a_step(run) * processes())))
    return run.model_copy(update={"train": run.train.model_copy(update={"steps": steps})})


def _rows_a_step(run: RunSettings) -> int:
    return run.train.batch_size * run.train.gradient_accumulation


def seeds(run: RunSettings) -> dict[str, Any]:
    """What each random choice of a run was drawn by."""
    seed = run.train.seed
    names = ("adapter_init", "calibration", "data_order", "dropout")
    return {"task": run.task.seed, **dict.fromkeys(names, seed), "generation": "nothing is drawn"}


def adapter_size(model: "PeftModel") -> dict[str, int]:
    """Trainable parameters, and the bytes they take in a checkpoint."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {
        "trainable_parameters": sum(parameter.numel() for parameter in trainable),
        "adapter_bytes": sum(parameter.numel() * parameter.element_size() for parameter in trainable),
    }
