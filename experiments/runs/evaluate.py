"""Answers to every example by greedy or beam search, and whether they are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.encoding import encode_prompts, pad_id, pad_left


@dataclass(frozen=True)
class ItemResult:
    """One example, what the model wrote, what was read from it, and whether it is right.

    ``second`` is what a second extractor read (None where the task has one only), ``agree`` whether both
    read the same.
    """

    id: str
    prompt: str
    output: str
    extracted: str
    answer: str
    correct: bool
    group: str
    second: str | None = None
    agree: bool = True


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    batch_size: int = 64,
    max_new_tokens: int = 32,
    num_beams: int = 1,
) -> list[ItemResult]:
    """Answer ``examples`` by ``answer`` and score them, in the order given."""
    return judged(task, examples, answer(model, tokenizer, examples, batch_size, max_new_tokens, num_beams))


def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    batch_size: int = 64,
    max_new_tokens: int = 32,
    num_beams: int = 1,
) -> list[str]:
    """What the model writes behind each prompt, greedily or by beam search, in the order given.

    Prompts are padded on the left and masked; those of like length share a batch. The answers do not depend
    on ``batch_size`` in float32. Generation stops at the end-of-sequence token.
    """
    prompts = encode_prompts(tokenizer, [example.prompt for example in examples])
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    outputs = [""] * len(prompts)
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        pad_token_id=pad_id(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
    )
    training, _ = model.training, model.eval()
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        generated = _generate(model, [prompts[index] for index in chosen], config)
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
        for index, text in zip(chosen, texts, strict=True):
            outputs[index] = text.strip()
    model.train(training)
    return outputs


def judged(task: Task, examples: Sequence[Example], outputs: Sequence[str]) -> list[ItemResult]:
    """Every output with its score."""
    return [_result(task, example, output) for example, output in zip(examples, outputs, strict=True)]


@torch.inference_mode()
def _generate(
    model: PreTrainedModel | PeftModel, prompts: list[list[int]], config: GenerationConfig
) -> Tensor:
    batch = {name: ids.to(model.device) for name, ids in pad_left(prompts, config.pad_token_id).items()}
    generate: Any = model.generate  # a mixin whose type checkers lose sight of
    return generate(**batch, generation_config=config)[:, batch["input_ids"].shape[1] :]


def _result(task: Task, example: Example, output: str) -> ItemResult:
    scored = task.score(example, output)
    return ItemResult(
        example.id,
        example.prompt,
        output,
        scored.extracted,
        example.answer,
        scored.correct,
        example.group,
        scored.second,
        scored.agree,
    )
