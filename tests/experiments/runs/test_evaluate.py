"""Answers: the same at every batch size, equal to one-by-one argmax, ended by end of sequence."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manifold_lora.experiments.runs.evaluate import evaluate
from manifold_lora.experiments.tasks import Example, Task, build_task
from manifold_lora.experiments.training.encoding import encode_prompts
from manifold_lora.models.tiny import tiny_model, word_tokenizer


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("arithmetic")


@pytest.fixture(scope="module")
def tokenizer(task: Task) -> PreTrainedTokenizerFast:
    return word_tokenizer((document.text for document in task.pretraining_texts()), split_digits=True)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    # Large weights make an untrained model decide: every step has a clear winner, ends included.
    model = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
    return model


@pytest.fixture(scope="module")
def examples(task: Task) -> list[Example]:
    """200 prompts of many lengths."""
    return [
        Example(
            item.id, " ".join(item.prompt.split()[: 3 + index % 15]), item.target, item.answer, item.group
        )
        for index, item in enumerate(task.train[:200])
    ]


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_do_not_depend_on_the_batch_size(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    examples: list[Example],
    beams: int,
) -> None:
    one, four, eight, many = (
        evaluate(model, tokenizer, task, examples, batch_size=size, max_new_tokens=4, num_beams=beams)
        for size in (1, 4, 8, 200)
    )
    assert one == four == eight == many
    assert len({result.output for result in one}) > 40


def test_a_beam_finds_answers_that_are_as_likely_or_likelier(
    tokenizer: PreTrainedTokenizerFast, task: Task, examples: list[Example]
) -> None:
    # Small weights keep an untrained model undecided, so that the greedy first word is often a mistake.
    undecided = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2).eval()

    def log_likelihood(example: Example, output: str) -> float:
        start, end = encode_prompts(tokenizer, [example.prompt])[0], encode_prompts(tokenizer, [output])[0]
        end = end[-len(output.split()) :]
        with torch.no_grad():
            logits = undecided(input_ids=torch.tensor([[*start, *end]])).logits[0, len(start) - 1 : -1]
        return float(logits.log_softmax(-1)[range(len(end)), end].sum())

    greedy, wide = (evaluate(undecided, tokenizer, task, examples[:120], 32, 3, beams) for beams in (1, 6))
    gaps = [
        log_likelihood(example, found.output) - log_likelihood(example, plain.output)
        for example, plain, found in zip(examples, greedy, wide, strict=False)
        if len(plain.output.split()) == len(found.output.split()) == 3
    ]
    assert len(gaps) > 20
    assert min(gaps) > -1e-4
    assert max(gaps) > 1e-3


def test_answers_are_the_argmax_step_by_step(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task, examples: list[Example]
) -> None:
    for example in examples[:8]:
        ids = encode_prompts(tokenizer, [example.prompt])[0]
        start = len(ids)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model.eval()(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        expected = tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        assert evaluate(model, tokenizer, task, [example], 4, 8)[0].output == expected


def test_results_keep_the_order_and_carry_the_score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task, examples: list[Example]
) -> None:
    results = evaluate(model, tokenizer, task, examples[:20], batch_size=7, max_new_tokens=4)
    assert [result.id for result in results] == [example.id for example in examples[:20]]
    for result, example in zip(results, examples, strict=False):
        scored = task.score(example, "" if result.truncated else result.output)
        assert (result.extracted, result.correct) == (scored.extracted, scored.correct)
        assert (result.prompt, result.answer, result.group) == (example.prompt, example.answer, example.group)


def test_generation_stops_at_the_end_of_sequence(
    tokenizer: PreTrainedTokenizerFast, task: Task, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2)
    steps: list[int] = []
    forward = model.forward

    def ended(*args: object, **kwargs: object) -> object:
        steps.append(1)
        output = forward(*args, **kwargs)
        output.logits[..., tokenizer.eos_token_id] = 1e4
        return output

    monkeypatch.setattr(model, "forward", ended)
    results = evaluate(model, tokenizer, task, examples[:4], batch_size=4, max_new_tokens=50)
    assert [result.output for result in results] == [""] * 4
    assert len(steps) == 1


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(
    training: bool,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    examples: list[Example],
) -> None:
    model.train(training)
    evaluate(model, tokenizer, task, examples[:2], 2, 2)
    assert model.training is training


def test_no_examples_give_no_results(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task
) -> None:
    assert evaluate(model, tokenizer, task, []) == []
