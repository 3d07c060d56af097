"""Answers to every example by greedy or beam search, and whether they are right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.answers.statement import finished
from manifold_lora.experiments.results.accuracy import accuracy, right_by_set
from manifold_lora.experiments.runs.likelihood import GoldLikelihood, gold_likelihood
from manifold_lora.experiments.runs.stop_tokens import stop_ids, until_stop
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.clock import now
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


def _ignore(done: int, items: int) -> None:
    """No progress is shown."""


class Output(NamedTuple):
    """What a model wrote, and whether the token limit cut it."""

    text: str
    truncated: bool = False


@dataclass(frozen=True)
class ItemResult:
    """One example, what the model wrote, what was read from it, and whether it is right.

    ``second`` is what a second extractor read (None where the task has one only), ``agree`` whether both
    read the same; ``truncated`` says that the token limit cut the output, of which only what was complete
    before is read. Items of one ``cluster`` ask the same.
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
    truncated: bool = False
    cluster: str = ""


def evaluate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Sequence[Example],
    batch_size: int = 64,
    max_new_tokens: int = 32,
    num_beams: int = 1,
    on_items: OnItems = _ignore,
) -> list[ItemResult]:
    """Answer ``examples`` by ``answer`` and score them, in the order given."""
    outputs = answer(model, tokenizer, examples, batch_size, max_new_tokens, num_beams, on_items)
    return [judged(task, example, output) for example, output in zip(examples, outputs, strict=True)]


def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    batch_size: int = 64,
    max_new_tokens: int = 32,
    num_beams: int = 1,
    on_items: OnItems = _ignore,
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


def judged(task: Task, example: Example, output: Output) -> ItemResult:
    """An output with its score; of one that was cut, nothing is read that may have been cut too."""
    text = finished(output.text) if output.truncated else output.text
    scored = task.score(example, text) if text or not output.truncated else Scored("", False)
    return ItemResult(
        example.id,
        example.prompt,
        output.text,
        scored.extracted,
        example.answer,
        scored.correct,
        example.group,
        scored.second,
        scored.agree,
        output.truncated,
        example.cluster,
    )


def evaluate_sets(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    run: RunSettings,
    max_new_tokens: int,
    on_items: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Accuracy by set, answers cut by the token limit or read differently by two extractors; every item.

    Args:
        model: the model, adapted or not.
        tokenizer: its tokenizer.
        task: whose validation and test sets are answered, of each ``evaluation.limit`` items.
        run: the settings.
        max_new_tokens: the token limit that a ceiling gives.
        on_items: called after each batch with the set, the number of its items answered, and of all.
    """
    settings = run.evaluation
    evaluation: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    for name, examples in {"validation": task.validation, **task.tests}.items():
        asked = examples[: settings.limit]
        start = now(model.device)
        results = evaluate(
            model,
            tokenizer,
            task,
            asked,
            settings.batch_size,
            max_new_tokens,
            settings.num_beams,
            partial(on_items, name) if on_items else _ignore,
        )
        spent = now(model.device) - start
        found = [{"set": name, **vars(result)} for result in results]
        evaluation[name] = {
            "accuracy": accuracy(right_by_set(found)[name]),
            "items": len(results),
            "truncated": sum(result.truncated for result in results),
            "max_new_tokens": max_new_tokens,
            "disagreements": sum(not result.agree for result in results),
            "seconds": spent,
        }
        if settings.nll:
            gold = gold_likelihood(model, tokenizer, task, asked, settings.batch_size)
            evaluation[name]["nll"] = _mean(gold)
            found = [
                item | {"nll": g.nll, "gold_tokens": g.tokens} for item, g in zip(found, gold, strict=True)
            ]
        items += found
    return evaluation, items


def _mean(gold: Sequence[GoldLikelihood]) -> float | None:
    """Nats a gold text; None where one is not known."""
    values = [each.nll for each in gold]
    return fmean(values) if values and None not in values else None  # type: ignore[arg-type]
