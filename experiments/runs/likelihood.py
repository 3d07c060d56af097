"""How likely a model finds the gold answers, or other text: negative log-likelihood, teacher-forced."""

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.encoding import IGNORED, Encoded, encode_pairs, pad_id, pad_right

# Logits of a batch, in numbers: 256 MB in float32.
_MOST_LOGITS = 1 << 26


class GoldLikelihood(NamedTuple):
    """-log p(gold text, end of sequence | prompt) in nats, and over how many tokens.

    None where the task knows no gold text of an item, or the value is not finite.
    """

    nll: float | None
    tokens: int


def gold_likelihood(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    batch_size: int = 64,
) -> list[GoldLikelihood]:
    """The likelihood of every example's gold text, in the order given; the mode of the model is restored."""
    known = [(place, gold) for place, example in enumerate(examples) if (gold := task.gold(example))]
    prompts = [examples[place].prompt for place, _ in known]
    rows = encode_pairs(tokenizer, prompts, [gold for _, gold in known]) if known else []
    found = [GoldLikelihood(None, 0)] * len(examples)
    for (place, _), row, value in zip(known, rows, row_nlls(model, tokenizer, rows, batch_size), strict=True):
        tokens = len(row["labels"]) - _start(row)
        found[place] = GoldLikelihood(value if math.isfinite(value) else None, tokens)
    return found


def row_nlls(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    batch_size: int = 64,
) -> list[float]:
    """-log p of the labels of each row in nats, whatever the batch; the mode of the model is restored.

    Args:
        model: the model, adapted or not.
        tokenizer: names the filler.
        rows: token ids with labels at the end of each, behind at least one token.
        batch_size: rows in one pass, fewer where their logits would not fit.
    """
    found = [0.0] * len(rows)
    training, _ = model.training, model.eval()
    for batch in _batches(rows, batch_size, model.config.get_text_config().vocab_size):
        values = _nll(model, [rows[index] for index in batch], pad_id(tokenizer))
        for index, value in zip(batch, values, strict=True):
            found[index] = value
    model.train(training)
    return found


def _start(row: Encoded) -> int:
    """Where the labels begin."""
    return row["labels"].count(IGNORED)


def _batches(rows: Sequence[Encoded], batch_size: int, vocabulary: int) -> Iterator[list[int]]:
    """Indices of rows whose prompts are of like length, few enough that their logits fit."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda at: (_start(rows[at]), len(rows[at]["labels"]))):
        wider = [*batch, index]
        span = max(len(rows[at]["labels"]) for at in wider) - _start(rows[wider[0]])
        if batch and (len(wider) > batch_size or len(wider) * span * vocabulary > _MOST_LOGITS):
            yield batch
            wider = [index]
        batch = wider
    if batch:
        yield batch


@torch.inference_mode()
def _nll(model: PreTrainedModel | PeftModel, rows: Sequence[Encoded], filler: int) -> list[float]:
    batch = {name: ids.to(model.device) for name, ids in pad_right(rows, filler).items()}
    labels = batch.pop("labels")
    # Logits are asked for only where a gold token is predicted: from the shortest prompt's last token on.
    kept = torch.arange(max(min(map(_start, rows)) - 1, 0), labels.shape[1] - 1, device=labels.device)
    options: dict[str, Any] = {"logits_to_keep": kept} if _keeps(model) else {}
    logits = model(**batch, **options).logits
    logits = logits if options else logits[:, kept]
    losses = nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels[:, kept + 1], ignore_index=IGNORED, reduction="none"
    )
    return [float(value) for value in losses.double().sum(1)]


def _keeps(model: PreTrainedModel | PeftModel) -> bool:
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
