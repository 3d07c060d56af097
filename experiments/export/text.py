"""Text to fit a stand-in to, and other text to measure it by, as batches of a model's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.encoding import Encoded, encode_examples, pad_id, pad_right

# Which training examples are drawn; not a setting, so that two exports of one adapter are the same.
_SEED = 0


@dataclass(frozen=True)
class Batches:
    """Batches to fit to, others to measure by, and in words where they come from."""

    seen: list[dict[str, Tensor]]
    held_out: list[dict[str, Tensor]]
    origin: str


def from_task(
    task: Task, tokenizer: PreTrainedTokenizerBase, *, examples: int, batch_size: int, max_length: int
) -> Batches:
    """Training examples to fit to and validation examples to measure by, prompts with their targets."""
    drawn = Random(_SEED).sample(list(task.train), min(examples, len(task.train)))
    held_out = list(task.validation)[:examples]
    if not drawn or not held_out:
        raise ManifoldLoraError("calibration examples", task.name, "a task with training and validation data")
    seen, others = (_encode(tokenizer, items, max_length) for items in (drawn, held_out))
    origin = f"{len(seen)} training and {len(others)} validation examples of {task.name}"
    return Batches(_cut(seen, tokenizer, batch_size), _cut(others, tokenizer, batch_size), origin)


def from_file(
    path: Path, tokenizer: PreTrainedTokenizerBase, *, examples: int, batch_size: int, max_length: int
) -> Batches:
    """Lines in turn: one to fit to, the next to measure by; up to ``examples`` of either.

    Raises ManifoldLoraError for a file that cannot be read as UTF-8, or with fewer than two lines of text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifoldLoraError(
            "text to fit on", str(path), "a UTF-8 file, one passage a line", str(error)
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()][: 2 * examples]
    if len(lines) < 2:
        raise ManifoldLoraError(
            "text to fit on", f"{len(lines)} lines in {path}", "at least two lines of text"
        )
    ids = tokenizer(lines, truncation=True, max_length=max_length)["input_ids"]
    encoded = [Encoded(input_ids=list(line), labels=list(line)) for line in ids]
    origin = f"{len(encoded[::2])} lines of {path.name}, and {len(encoded[1::2])} others"
    seen, others = (_cut(part, tokenizer, batch_size) for part in (encoded[::2], encoded[1::2]))
    return Batches(seen, others, origin)


def _encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> list[Encoded]:
    return [
        Encoded(input_ids=row["input_ids"][:max_length], labels=row["labels"][:max_length])
        for row in encode_examples(tokenizer, examples)
    ]


def _cut(encoded: list[Encoded], tokenizer: PreTrainedTokenizerBase, size: int) -> list[dict[str, Any]]:
    """Batches of passages of like length, without labels: nothing is learned from them."""
    ordered = sorted(encoded, key=lambda item: len(item["input_ids"]))
    padded = [pad_right(ordered[at : at + size], pad_id(tokenizer)) for at in range(0, len(ordered), size)]
    return [{name: batch[name] for name in ("input_ids", "attention_mask")} for batch in padded]
