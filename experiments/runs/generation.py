"""Answers that transformers writes, by greedy or beam search, and what every engine's answers are."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.runs.stop_tokens import stop_ids, until_stop
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.experiments.training.encoding import encode_prompts, pad_id, pad_left

# What a model's own generation config may say of sampling and penalties is not asked: a score is that of the
# likeliest text.
_PLAIN = {
    "do_sample": False,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "min_length": 0,
}


OnItems = Callable[[int, int], None]


def ignore(done: int, items: int) -> None:
    """No progress is shown."""


class Output(NamedTuple):
    """What a model wrote, and whether the token limit cut it."""

    text: str
    truncated: bool = False


# The parameters of ``answer``.
Answers = Callable[
    [PreTrainedModel | PeftModel, PreTrainedTokenizerBase, Sequence[Example], int, int, int, OnItems],
    list[Output],
]


def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    batch_size: int = 64,
    max_new_tokens: int = 32,
    num_beams: int = 1,
    on_items: OnItems = ignore,
) -> list[Output]:
    """What the model writes behind each prompt, greedily or by beam search, in the order given.

    Prompts are padded on the left and masked; those of like length share a batch. The answers do not depend
    on ``batch_size`` in float32. Generation stops at every end that ``stop_ids`` names. ``on_items`` gets
    the number of items answered, and of all, after each batch.
    """
    prompts = encode_prompts(tokenizer, [example.prompt for example in examples])
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    outputs = [Output("")] * len(prompts)
    stops = stop_ids(tokenizer, model.generation_config)
    config = GenerationConfig(
        **_PLAIN,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        pad_token_id=pad_id(tokenizer),
        eos_token_id=stops or None,
    )
    training, _ = model.training, model.eval()
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        generated = _generate(model, [prompts[index] for index in chosen], config)
        written = [until_stop(ids, stops) for ids in generated]
        texts = tokenizer.batch_decode([ids for ids, _ in written], skip_special_tokens=True)
        for index, text, (_, stopped) in zip(chosen, texts, written, strict=True):
            outputs[index] = Output(text.strip(), not stopped)
        on_items(start + len(chosen), len(order))
    model.train(training)
    return outputs


@torch.inference_mode()
def _generate(
    model: PreTrainedModel | PeftModel, prompts: list[list[int]], config: GenerationConfig
) -> list[list[int]]:
    batch = {name: ids.to(model.device) for name, ids in pad_left(prompts, config.pad_token_id).items()}
    generate: Any = model.generate  # a mixin whose type checkers lose sight of
    written = generate(**batch, generation_config=config)[:, batch["input_ids"].shape[1] :]
    ids: list[list[int]] = written.tolist()
    return ids
