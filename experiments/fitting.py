"""The training rows that are short enough: longer ones are left out, not cut."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from manifold_lora.experiments.encoding import encode_examples
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.manifolds.errors import ManifoldLoraError


def fitting(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> list[Example]:
    """The examples of at most ``max_length`` tokens, prompt, target and end of sequence together.

    Raises ManifoldLoraError where they are less than half of all: a score would be that of another task.
    """
    lengths = [len(item["input_ids"]) for item in encode_examples(tokenizer, examples)]
    kept = [example for example, length in zip(examples, lengths, strict=True) if length <= max_length]
    if 2 * len(kept) < len(lengths):
        median = sorted(lengths)[(len(lengths) - 1) // 2]
        allowed = f"{max(lengths)} for all training rows, {median} for half of them"
        hint = f"{len(kept)} of {len(lengths)} are that short"
        raise ManifoldLoraError("train.max_length", max_length, allowed, hint)
    return kept


def told(kept: int, rows: int, max_length: int) -> str:
    """A line about the rows that are left out."""
    return (
        f"{rows - kept} of {rows} training rows are left out: longer than {max_length} tokens "
        "(train.max_length takes more)"
    )
