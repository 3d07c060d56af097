"""The embedded base of a task: pre-trained from scratch once, cached by its recipe."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks.base import Document, Task
from manifold_lora.experiments.training.encoding import Encoded, encode_pairs
from manifold_lora.experiments.training.options import FitOptions, OnStep
from manifold_lora.experiments.training.train import fit
from manifold_lora.models.saved.whole_folder import flush
from manifold_lora.models.tiny import tiny_model, word_tokenizer

# Part of the cache key: raise it when a change here or in models/tiny.py gives other weights.
_RECIPE_VERSION = 1


def base_hash(task: Task) -> str:
    """The first 16 hex digits of the sha256 over the recipe and the documents."""
    recipe = {
        "version": _RECIPE_VERSION,
        "spec": asdict(task.base_spec),
        "documents": [asdict(document) for document in task.pretraining_texts()],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def ensure_base(task: Task, cache_dir: str | Path, progress: OnStep | None = None) -> Path:
    """The folder of the task's base model: a Hugging Face checkpoint with its tokenizer.

    Trains it if the cache does not hold it. Two processes that ask at once train it once; a killed one leaves
    nothing that passes for a base.

    Args:
        task: whose base.
        cache_dir: where bases are kept, one folder for each recipe.
        progress: called with the step just done, from 1 on, and its loss.
    """
    cache = Path(cache_dir)
    folder = cache / f"{task.name}-{base_hash(task)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            for left in cache.glob(f".{folder.name}-*"):  # by one that was killed: the lock is ours now
                shutil.rmtree(left, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache))
            try:
                _pretrain(task, partial, lambda step, loss, *_: progress(step, loss) if progress else None)
                flush(partial)
                _put(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def pretrain_in_steps(
    task: Task, folder: str | Path, steps: Sequence[int], progress: OnStep | None = None
) -> dict[int, Path]:
    """Steps done -> folder ``step-N`` of the task's base as it was then, the finished one last.

    Args:
        task: whose base; the recipe is that of ``ensure_base``.
        folder: where the folders are put; those that are there are written anew.
        steps: how many steps were done when it is kept, 0 for the untrained model.
        progress: as of ``ensure_base``.

    Raises ManifoldLoraError for a step beyond the recipe's.
    """
    last = task.base_spec.steps
    if wrong := [step for step in steps if not 0 <= step <= last]:
        raise ManifoldLoraError("steps of pre-training", wrong, f"0 to {last}")
    kept = {step: Path(folder) / f"step-{step}" for step in sorted({*steps, last})}

    def keep(step: int, loss: float, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        # Called before the weights move: what stands there are those after the steps before.
        if (place := kept.get(step - 1)) is not None:
            model.save_pretrained(place)
            tokenizer.save_pretrained(place)
        if progress is not None:
            progress(step, loss)

    _pretrain(task, kept[last], keep)
    return kept


def _put(partial: Path, folder: Path) -> None:
    try:
        os.replace(partial, folder)
    except (
        OSError
    ):  # on a file system whose locks do not reach other machines, one of them may have been first
        if not folder.is_dir():
            raise


def _pretrain(task: Task, folder: Path, on_step: Callable[..., None]) -> None:
    """Train the base and save it; ``on_step`` gets the step, its loss, the model and the tokenizer."""
    spec, documents = task.base_spec, list(task.pretraining_texts())
    tokenizer = word_tokenizer(
        (document.text for document in documents),
        split_digits=spec.split_digits,
        lowercase=spec.lowercase,
        min_count=spec.min_count,
    )
    model = tiny_model(
        len(tokenizer),
        hidden_size=spec.hidden_size,
        layers=spec.layers,
        heads=spec.heads,
        intermediate_size=spec.intermediate_size,
        max_positions=spec.max_positions,
        seed=spec.seed,
    )
    settings = TrainSettings(
        learning_rate=spec.learning_rate,
        steps=spec.steps,
        batch_size=spec.batch_size,
        seed=spec.seed,
        weight_decay=spec.weight_decay,
        warmup_ratio=spec.warmup_ratio,
        max_length=spec.max_positions,
    )
    rows = [row for row in _encode(tokenizer, documents) if len(row["input_ids"]) <= spec.max_positions]
    fit(
        model,
        tokenizer,
        rows,
        settings,
        FitOptions(lambda step, loss: on_step(step, loss, model, tokenizer)),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _encode(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[Encoded]:
    rests = [document.text.removeprefix(document.context).strip() for document in documents]
    return encode_pairs(tokenizer, [document.context for document in documents], rests)
