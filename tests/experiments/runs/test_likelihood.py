"""The likelihood of gold texts: the softmax written out in float64, whatever the batch and the padding."""

import math

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manifold_lora.experiments.runs import likelihood
from manifold_lora.experiments.runs.likelihood import gold_likelihood
from manifold_lora.experiments.tasks import Example, Task, build_task
from manifold_lora.models.tiny import FAMILIES, tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("arithmetic", limit=24)


@pytest.fixture(scope="module")
def tokenizer(task: Task) -> PreTrainedTokenizerFast:
    return word_tokenizer((document.text for document in task.pretraining_texts()), split_digits=True)


@pytest.fixture(scope="module")
def examples(task: Task) -> list[Example]:
    """Prompts and targets of many lengths."""
    return [
        Example(
            item.id,
            " ".join(item.prompt.split()[: 2 + place % 9]),
            " ".join(item.target.split()[: 1 + place % 5]),
            item.answer,
        )
        for place, item in enumerate(task.train)
    ]


def written_out(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, example: Example) -> float:
    """The oracle: one text at a time, no padding, float64."""
    prompt = tokenizer(example.prompt)["input_ids"]
    gold = [*tokenizer(example.target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *gold]])).logits[0].double().log_softmax(-1)
    return -sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(gold))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pad", ["<pad>", "</s>"], ids=["pad", "pad = eos"])
def test_it_is_the_softmax_written_out(
    family: str, pad: str, task: Task, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> None:
    model = tiny_model(len(tokenizer), family=family, hidden_size=32, layers=1, heads=2).eval()
    tokenizer.pad_token = pad
    try:
        found = gold_likelihood(model, tokenizer, task, examples, 7)
    finally:
        tokenizer.pad_token = "<pad>"
    for each, example in zip(found, examples, strict=True):
        assert each.nll == pytest.approx(written_out(model, tokenizer, example), rel=1e-5)
        assert each.tokens == len(tokenizer(example.target, add_special_tokens=False)["input_ids"]) + 1


@pytest.mark.parametrize(
    "adapter", [LoraConfig(r=2, target_modules=["q_proj"]), "prefix"], ids=["lora", "prefix"]
)
def test_an_adapted_model_is_asked_alike(
    adapter: LoraConfig | str, task: Task, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> None:
    config = (
        PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM") if adapter == "prefix" else adapter
    )
    model = adapt(tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2), config)
    model.train()
    one, many = (gold_likelihood(model, tokenizer, task, examples, size) for size in (1, 24))
    assert model.training
    assert [each.nll for each in many] == pytest.approx([each.nll for each in one], rel=1e-5)
    oracle = [written_out(model.eval(), tokenizer, example) for example in examples]
    assert [each.nll for each in one] == pytest.approx(oracle, rel=1e-5)


def test_logits_of_a_batch_are_bounded_and_cut_where_the_model_does_not(
    monkeypatch: pytest.MonkeyPatch, task: Task, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> None:
    model = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2)
    whole = gold_likelihood(model, tokenizer, task, examples)
    monkeypatch.setattr(likelihood, "_keeps", lambda model: False)
    monkeypatch.setattr(likelihood, "_MOST_LOGITS", 40 * len(tokenizer))
    sizes: list[int] = []
    nll = likelihood._nll
    monkeypatch.setattr(
        likelihood, "_nll", lambda model, rows, filler: (sizes.append(len(rows)), nll(model, rows, filler))[1]
    )
    narrow = gold_likelihood(model, tokenizer, task, examples)
    assert sum(sizes) == 24
    assert 1 < len(sizes) < 24
    assert [each.nll for each in narrow] == pytest.approx([each.nll for each in whole], rel=1e-5)


def test_an_unknown_gold_text_and_a_value_that_is_not_finite_have_none(
    task: Task, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> None:
    model = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2)
    unknown = Example("x", "tom has", "", "3")
    found = gold_likelihood(model, tokenizer, task, [examples[0], unknown, examples[1]])
    assert found[1] == (None, 0)
    assert [each.nll for each in gold_likelihood(model, tokenizer, task, examples[:2])] == pytest.approx(
        [found[0].nll, found[2].nll], rel=1e-5
    )
    assert gold_likelihood(model, tokenizer, task, [unknown]) == [(None, 0)]
    assert gold_likelihood(model, tokenizer, task, []) == []
    model.lm_head.weight.data[0, 0] = math.nan
    assert gold_likelihood(model, tokenizer, task, examples[:1])[0].nll is None
