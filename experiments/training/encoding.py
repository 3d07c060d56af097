"""Text to token ids and padded batches; the loss counts the target alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.tasks.base import Example

IGNORED = -100


class Encoded(TypedDict):
    """Token ids, and the ids to predict (IGNORED where the loss does not count)."""

    input_ids: list[int]
    labels: list[int]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """The ids of prompts, with whatever the tokenizer puts before a text."""
    if not prompts:  # which fast tokenizers do not take
        return []
    return [list(ids) for ids in tokenizer(list(prompts))["input_ids"]]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], targets: Sequence[str]
) -> list[Encoded]:
    """Prompt, target and end of sequence; labels only on the last two.

    Both are encoded apart, so that a prompt has the same ids in training and in generation.
    """
    before = encode_prompts(tokenizer, prompts)
    after = tokenizer(list(targets), add_special_tokens=False)["input_ids"]
    return [
        _join(first, [*second, tokenizer.eos_token_id]) for first, second in zip(before, after, strict=True)
    ]


def encode_examples(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[Encoded]:
    """As ``encode_pairs``; labels on the prompt too where an example says that it is to be learned."""
    pairs = encode_pairs(
        tokenizer, [example.prompt for example in examples], [example.target for example in examples]
    )
    return [
        Encoded(input_ids=pair["input_ids"], labels=pair["input_ids"]) if example.learn_prompt else pair
        for pair, example in zip(pairs, examples, strict=True)
    ]


def _join(prompt: list[int], target: list[int]) -> Encoded:
    return Encoded(input_ids=[*prompt, *target], labels=[*[IGNORED] * len(prompt), *target])


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills a batch up; masked wherever it is used."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def pad_right(encoded: Sequence[Encoded], filler: int) -> dict[str, Tensor]:
    """A training batch: ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest)."""
    longest = max(len(item["input_ids"]) for item in encoded)
    return {
        "input_ids": _filled([item["input_ids"] for item in encoded], longest, filler),
        "attention_mask": _filled([[1] * len(item["input_ids"]) for item in encoded], longest, 0),
        "labels": _filled([item["labels"] for item in encoded], longest, IGNORED),
    }


def pad_left(prompts: Sequence[list[int]], filler: int) -> dict[str, Tensor]:
    """A generation batch: ``input_ids`` and ``attention_mask``, each (batch, longest), fillers first."""
    longest = max(map(len, prompts))
    ids = [[filler] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _filled(rows: list[list[int]], longest: int, filler: int) -> Tensor:
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


@dataclass(frozen=True)
class TrainingRows:
    """The examples a model learns from and their token ids, row by row; ``left_out`` others were too long."""

    examples: list[Example]
    encoded: list[Encoded]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.encoded)

    def left_out_line(self, max_length: int) -> str:
        """A sentence about the rows that are left out."""
        return (
            f"{self.left_out} of {self.left_out + len(self)} training rows are left out: longer than "
            f"{max_length} tokens (train.max_length takes more)"
        )


def training_rows(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> TrainingRows:
    """The examples of at most ``max_length`` tokens: prompt, target and end of sequence together.

    Raises ManifoldLoraError where they are less than half of all: a score would be that of another task.
    """
    encoded = encode_examples(tokenizer, examples)
    kept = [place for place, row in enumerate(encoded) if len(row["input_ids"]) <= max_length]
    if 2 * len(kept) < len(encoded):
        lengths = sorted(len(row["input_ids"]) for row in encoded)
        allowed = f"{lengths[-1]} for all training rows, {lengths[(len(lengths) - 1) // 2]} for half of them"
        hint = f"{len(kept)} of {len(lengths)} are that short"
        raise ManifoldLoraError("train.max_length", max_length, allowed, hint)
    rows = [examples[place] for place in kept], [encoded[place] for place in kept]
    return TrainingRows(*rows, left_out=len(encoded) - len(kept))
