"""A trained cell's answers to everything, to be the right ones of a null."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.runs.cell import gains_of, load_adapted, train_and_evaluate
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings


def label(cell: dict[str, Any], folder: str, base: str, path: str, progress: Callable[..., None]) -> None:
    """Train a cell again as it was and write set -> id -> [text, answer read from it] to ``path``.

    Left out are answers that the token limit cut, or from which nothing was read.

    Args:
        cell: ``{"id", "run", "needs"}`` of a Cell, as plain data.
        folder: the ablation's output folder, for the gains that a gain-matched arm needs.
        base: folder or hub name of the base model.
        path: the file to write.
        progress: as of ``run_cell``.
    """
    from manifold_lora.experiments.runs.evaluate import evaluate

    run = validate(RunSettings, cell["run"], f"cell {cell['id']}")
    task = task_of(run.task, run.model.name)
    adapted = load_adapted(run, base, task.train, gains_of(ResultStore(Path(folder)), cell["needs"]))
    record, items = train_and_evaluate(adapted, task, run, progress)
    limit = record["evaluation"]["validation"]["max_new_tokens"]
    settings = run.evaluation
    more = evaluate(
        adapted.model, adapted.tokenizer, task, task.train, settings.batch_size, limit, settings.num_beams
    )
    labels: dict[str, dict[str, list[str]]] = {}
    for item in [*items, *({"set": "train", **vars(result)} for result in more)]:
        if item["extracted"] and not item["truncated"]:
            labels.setdefault(item["set"], {})[item["id"]] = [item["output"], item["extracted"]]
    write_text(Path(path), json.dumps(labels, ensure_ascii=False))
