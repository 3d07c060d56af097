"""Measure the token geometry of a model, and write JSON, CSV, figures and a section of the report."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from manifold_lora.experiments.executors.progress import EVERY, Shown, shown_on
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
    from manifold_lora.experiments.settings.plugin_sources import plugin_inputs
    from manifold_lora.experiments.token_geometry import layer_stage, stages
    from manifold_lora.experiments.token_geometry.stage_cache import StageCache

    settings = corpus.settings
    chosen = settings.model_dump(mode="json", exclude={"output", "cache", "model", "data", "data_folder"})
    cache = StageCache(settings.cache)
    inputs = corpus.inputs | {"settings": chosen} | plugin_inputs(chosen)
    record: Record = {"version": __version__, "settings": settings.model_dump(mode="json")}
    with shown_on(Console(stderr=True)) as shown:
        total = sum(min(len(x), settings.prompts) for x in corpus.texts.values())
        tick = _ticks(shown, "delta per prompt", total)
        plan: list[tuple[str, Record, Callable[[], Any]]] = [
            ("frequency", inputs, lambda: stages.frequency(corpus)),
            ("norms", inputs, lambda: stages.norms(corpus)),
            ("delta", inputs, lambda: stages.delta(corpus, tick)),
            ("vocabulary", inputs, lambda: stages.vocabulary(corpus)),
            ("hierarchy", inputs | stages.hierarchy_inputs(corpus), lambda: stages.hierarchy(corpus)),
        ]
        if layer_stage.wants_layers(corpus):
            more = inputs | layer_stage.layer_inputs(corpus)
            runs = 1 + 2 * len(settings.adapters)
            total = runs * sum(min(len(x), settings.layer_prompts) for x in corpus.texts.values())
            layer_tick = _ticks(shown, "hidden states", total)
            plan.append(("layers", more, lambda: layer_stage.layers(corpus, layer_tick)))
        for place, (name, what, compute) in enumerate(plan, start=1):
            record[name] = cache.get(name, what, compute)
            shown.move("stages", "stages", place, len(plan), name, EVERY)
    return record | {"cached": cache.hits}


def _ticks(shown: Shown, name: str, total: int) -> Callable[[], None]:
    """A tick that counts; what comes from the cache makes none and is not shown."""
    count = itertools.count(1)

    def tick() -> None:
        shown.move(name, name, next(count), total)

    return tick
