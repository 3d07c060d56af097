"""Answers to every example by greedy or beam search, and whether they are right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.answers.statement import finished
from manifold_lora.experiments.results.accuracy import accuracy, right_by_set
from manifold_lora.experiments.runs.generation import Answers, OnItems, Output, answer, ignore
from manifold_lora.experiments.runs.likelihood import GoldLikelihood, gold_likelihood
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.clock import now
from manifold_lora.experiments.training.encoding import encode_prompts


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
    on_items: OnItems = ignore,
    answers: Answers | None = None,
) -> list[ItemResult]:
    """Answer ``examples`` by ``answer``, or another engine's, and score them, in the order given."""
    given = (examples, batch_size, max_new_tokens, num_beams, on_items)
    outputs = (answers or answer)(model, tokenizer, *given)
    return [judged(task, example, output) for example, output in zip(examples, outputs, strict=True)]


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
    sets = {
        name: examples[: settings.limit]
        for name, examples in {"validation": task.validation, **task.tests}.items()
    }
    answers = _engine(model, tokenizer, run, sets, max_new_tokens)
    for name, asked in sets.items():
        start = now(model.device)
        results = evaluate(
            model,
            tokenizer,
            task,
            asked,
            settings.batch_size,
            max_new_tokens,
            settings.num_beams,
            partial(on_items, name) if on_items else ignore,
            answers,
        )
        seconds = now(model.device) - start
        found = [{"set": name, **vars(result)} for result in results]
        evaluation[name] = {
            "accuracy": accuracy(right_by_set(found)[name]),
            "items": len(results),
            "truncated": sum(result.truncated for result in results),
            "max_new_tokens": max_new_tokens,
            "disagreements": sum(not result.agree for result in results),
            "seconds": seconds,
        }
        if settings.nll:
            gold = gold_likelihood(model, tokenizer, task, asked, settings.batch_size)
            evaluation[name]["nll"] = _mean(gold)
            found = [
                item | {"nll": g.nll, "gold_tokens": g.tokens} for item, g in zip(found, gold, strict=True)
            ]
        items += found
    return evaluation, items


def _engine(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    run: RunSettings,
    sets: Mapping[str, Sequence[Example]],
    max_new_tokens: int,
) -> Answers | None:
    """What answers in place of ``answer``, if the settings name it; it reads the model as it is now."""
    if run.evaluation.engine == "transformers":
        return None
    from manifold_lora.experiments.runs.vllm_answers import VllmAnswers

    prompts = encode_prompts(tokenizer, [item.prompt for examples in sets.values() for item in examples])
    return VllmAnswers(model, run, max(map(len, prompts), default=1) + max_new_tokens)


def _mean(gold: Sequence[GoldLikelihood]) -> float | None:
    """Nats a gold text; None where one is not known."""
    values = [each.nll for each in gold]
    return fmean(values) if values and None not in values else None  # type: ignore[arg-type]
