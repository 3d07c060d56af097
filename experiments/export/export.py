"""A trained manifold adapter as an ordinary LoRA: fitted, measured on the task, written with its figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.progress import Shown, shown_on
from manifold_lora.experiments.export.report import ExportReport
from manifold_lora.experiments.export.text import Batches, from_file, from_task
from manifold_lora.experiments.runs.folder import ADAPTER, SETTINGS
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.parse import load_settings
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Task
from manifold_lora.models.export import export_lora, exportable, fit_layers, linearised, logits_error

Inputs = dict[str, Any]


@dataclass(frozen=True)
class ExportOptions:
    """Where to, and on what text: see the verb's switches."""

    output: Path
    text: Path | None = None
    examples: int = 256
    max_length: int = 512
    batch_size: int = 16


@dataclass(frozen=True)
class Source:
    """What is exported; ``run`` and ``task`` are None for an adapter that no run folder came with."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    run: RunSettings | None
    task: Task | None


def export(folder: Path, options: ExportOptions, console: Console) -> int:
    """Write the LoRA nearest to the adapter in ``folder`` and print how near it is. Returns 0.

    Args:
        folder: what ``manifold-lora train`` wrote, or a saved adapter's folder.
        options: where to and on what text; without ``text`` the examples of the run's task are used.

    Raises ManifoldLoraError for a folder without a manifold adapter, an output folder that holds something
    else, or too little text.
    """
    _check_output(folder, options.output)
    source = open_source(folder)
    exportable(source.model)
    batches = _batches(source, options)
    with shown_on(console) as shown:
        seen, held_out = (
            _counted(part, shown, f"running the adapter on text {what}")
            for part, what in ((batches.seen, "to fit to"), (batches.held_out, "to measure by"))
        )
        fits = fit_layers(source.model, seen, held_out, partial(shown.move, "fit", "fitting layers"))
        compared = _counted(batches.held_out, shown, "comparing logits")
        error, same = logits_error(source.model, fits, compared)
        scores = _scores(source, fits, shown)
    report = ExportReport(fits, error, same, scores, batches.origin)
    export_lora(source.model, fits, options.output, report.card(source.model), source.tokenizer)
    report.write(options.output)
    for table in report.tables():
        console.print(table)
    console.print(f"LoRA in {options.output}")
    return 0


def _counted(batches: Sequence[Inputs], shown: Shown, label: str) -> Iterator[Inputs]:
    """The batches, each shown when it has been used."""
    for place, batch in enumerate(batches):
        yield batch
        shown.move(label, label, place + 1, len(batches))


def open_source(folder: Path) -> Source:
    """The adapted model in a run's folder or an adapter's folder. Raises ManifoldLoraError."""
    from manifold_lora.models.load import load_adapter, load_base

    is_run = (folder / SETTINGS).is_file()
    adapted = load_adapter(str(folder / ADAPTER if is_run else folder))
    config = adapted.peft_config[adapted.active_adapter]
    _, tokenizer = load_base(str(config.base_model_name_or_path), revision=config.revision)
    if not is_run:
        return Source(adapted, tokenizer, None, None)
    run = load_settings(RunSettings, folder / SETTINGS)
    return Source(adapted, tokenizer, run, task_of(run.task, run.model.name))


def _batches(source: Source, options: ExportOptions) -> Batches:
    limits = {"examples": options.examples, "batch_size": options.batch_size}
    if options.text is not None:
        return from_file(options.text, source.tokenizer, max_length=options.max_length, **limits)
    if source.task is None:
        raise ManifoldLoraError(
            "text to fit on", None, "a file given by --text", "no run came with the adapter"
        )
    return from_task(source.task, source.tokenizer, max_length=options.max_length, **limits)


def _answering(shown: Shown, by: str, name: str, done: int, total: int) -> None:
    shown.move("items", f"answering {name} by the {by}", done, total)


def _scores(source: Source, fits: Any, shown: Shown) -> dict[str, tuple[int, float, float]]:
    """Set -> (items, accuracy of the adapter, accuracy of the LoRA); empty where no task is known."""
    from manifold_lora.experiments.runs.ceiling import checked_ceiling
    from manifold_lora.experiments.runs.evaluate import evaluate_sets

    if source.run is None or source.task is None:
        return {}
    asked = source.tokenizer, source.task, source.run
    limit = checked_ceiling(source.model, *asked).max_new_tokens
    before, _ = evaluate_sets(source.model, *asked, limit, partial(_answering, shown, "adapter"))
    with linearised(source.model, fits):
        after, _ = evaluate_sets(source.model, *asked, limit, partial(_answering, shown, "LoRA"))
    return {
        name: (entry["items"], entry["accuracy"], after[name]["accuracy"]) for name, entry in before.items()
    }


def _check_output(folder: Path, output: Path) -> None:
    """Only what an export wrote is replaced."""
    if output.resolve() in (folder.resolve(), (folder / ADAPTER).resolve()):
        raise ManifoldLoraError("output folder", str(output), "a folder other than the adapter's own")
    if output.exists() and not ExportReport.is_in(output) and (not output.is_dir() or any(output.iterdir())):
        hint = "it holds something that no export wrote"
        raise ManifoldLoraError("output folder", str(output), "a new or an exported folder", hint)
