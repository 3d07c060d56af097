"""The loss of validation targets, which early stopping goes by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.experiments.training.encoding import IGNORED, encode_examples, pad_id, pad_right


@dataclass(frozen=True)
class ValidationLoss:
    """Mean cross-entropy of the target tokens, end of sequence included, each token counted alike."""

    model: PeftModel
    batches: Sequence[dict[str, Tensor]]

    @classmethod
    def of(
        cls,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        batch_size: int,
    ) -> "ValidationLoss":
        """Examples of like length share a batch; raises ManifoldLoraError where none has a target."""
        taught = [example for example in examples if example.target]
        if not taught:
            raise ManifoldLoraError("train.validate_by", "loss", "accuracy", "no validation row has a target")
        encoded = sorted(encode_examples(tokenizer, taught), key=lambda item: len(item["input_ids"]))
        parts = (encoded[at : at + batch_size] for at in range(0, len(encoded), batch_size))
        return cls(model, [pad_right(part, pad_id(tokenizer)) for part in parts])

    @torch.no_grad()
    def __call__(self) -> float:
        """The loss of the model as it is; raises DivergedError for one that is not finite."""
        training, model = self.model.training, self.model
        model.eval()
        total = count = 0.0
        for batch in self.batches:
            inputs: dict[str, Any] = {name: ids.to(model.device) for name, ids in batch.items()}
            tokens = int((batch["labels"][:, 1:] != IGNORED).sum())
            total += tokens * float(model(**inputs).loss)
            count += tokens
        model.train(training)
        if not math.isfinite(total):
            raise DivergedError("validation loss", total / count, "a finite number")
        return total / count
