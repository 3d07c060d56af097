"""Measure the token geometry of a model, and write JSON, CSV, figures and a section of the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from manifold_lora.experiments.token_geometry.settings import GeometrySettings

Record = dict[str, Any]


def run_geometry(settings: GeometrySettings) -> Path:
    """Everything the settings ask for, written to ``settings.output``; returns the path of geometry.json.

    Raises ManifoldLoraError for missing data, model or tokenizer, and for texts without tokens.
    """
    # Imported late: settings with a typo are refused before torch and transformers are loaded.
    from manifold_lora.experiments.results.atomic import write_bytes, write_text
    from manifold_lora.experiments.token_geometry.corpus_context import Corpus
    from manifold_lora.experiments.token_geometry.figures import draw_all
    from manifold_lora.experiments.token_geometry.section import html_section
    from manifold_lora.experiments.token_geometry.tables import csv_files

    record = measure(Corpus.open(settings))
    figures = draw_all(record)
    for name, image in figures.items():
        write_bytes(settings.output / f"{name}.png", image)
    for name, text in csv_files(record).items():
        write_text(settings.output / name, text)
    write_text(settings.output / "section.html", html_section(record, figures))
    path = settings.output / "geometry.json"
    write_text(path, json.dumps(record, indent=1))
    return path


def measure(corpus: Any) -> Record:
    """All stages, each from the cache where its inputs were seen before; ``cached`` names those."""
    from manifold_lora import __version__
    from manifold_lora.experiments.token_geometry import layer_stage, stages
    from manifold_lora.experiments.token_geometry.stage_cache import StageCache

    settings = corpus.settings
    chosen = settings.model_dump(mode="json", exclude={"output", "cache", "model", "data", "data_folder"})
    cache = StageCache(settings.cache)
    inputs = corpus.inputs | {"settings": chosen}
    record: Record = {"version": __version__, "settings": settings.model_dump(mode="json")}
    with _progress() as bar:
        tick = _line(
            bar, "delta per prompt", sum(min(len(x), settings.prompts) for x in corpus.texts.values())
        )
        plan: list[tuple[str, Record, Callable[[], Any]]] = [
            ("frequency", inputs, lambda: stages.frequency(corpus)),
            ("norms", inputs, lambda: stages.norms(corpus)),
            ("delta", inputs, lambda: stages.delta(corpus, tick)),
            ("vocabulary", inputs, lambda: stages.vocabulary(corpus)),
            ("hierarchy", inputs, lambda: stages.hierarchy(corpus)),
        ]
        if layer_stage.wants_layers(corpus):
            more = inputs | layer_stage.layer_inputs(corpus)
            runs = 1 + 2 * len(settings.adapters)
            total = runs * sum(min(len(x), settings.layer_prompts) for x in corpus.texts.values())
            layer_tick = _line(bar, "hidden states", total)
            plan.append(("layers", more, lambda: layer_stage.layers(corpus, layer_tick)))
        stage_line = bar.add_task("stages", total=len(plan))
        for name, what, compute in plan:
            record[name] = cache.get(name, what, compute)
            bar.advance(stage_line)
    return record | {"cached": cache.hits}


def _progress() -> Progress:
    from rich.console import Console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def _line(bar: Progress, name: str, total: int) -> Callable[[], None]:
    """A tick that opens its line at the first call, so that what comes from the cache shows none."""
    tasks: list[TaskID] = []

    def tick() -> None:
        if not tasks:
            tasks.append(bar.add_task(name, total=total))
        bar.advance(tasks[0])

    return tick
