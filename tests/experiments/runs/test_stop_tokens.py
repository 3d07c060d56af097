"""Generation ends at every stop token, nothing behind one is read, and padding changes no answer."""

from collections.abc import Callable, Sequence

import pytest
import torch
from peft import LoraConfig
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from manifold_lora.experiments.runs.evaluate import evaluate
from manifold_lora.experiments.runs.generation import answer
from manifold_lora.experiments.runs.stop_tokens import stop_ids, until_stop
from manifold_lora.experiments.tasks import Example, Task, build_task
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }} {{ m['content'] }} <end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model{% endif %}"
)
NO_END = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
ROLES = (
    "{% if messages|length > 1 %}{{ raise_exception('one message') }}{% endif %}{{ messages[0]['content'] }}"
)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer(["tom has 3 apples . user model : 4 7 12 The answer is ="], split_digits=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    return tokenizer


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2)


@pytest.fixture
def task() -> Task:
    return build_task("arithmetic", limit=1)


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


Says = Callable[[PreTrainedModel, Sequence[int]], list[int]]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Make a model say one token after the other; returns the list of the steps it was asked for."""

    def script(model: PreTrainedModel, ids: Sequence[int]) -> list[int]:
        forward, steps = model.forward, []

        def scripted(*args: object, **kwargs: object) -> object:
            output = forward(*args, **kwargs)
            output.logits[:, -1] = 0.0
            output.logits[:, -1, ids[len(steps)]] = 1e4
            steps.append(1)
            return output

        monkeypatch.setattr(model, "forward", scripted)
        return steps

    return script


@pytest.mark.parametrize("stated", ["<end_of_turn>", ["</s>", "<end_of_turn>"]], ids=["one id", "several"])
@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapted"])
def test_the_generation_config_stops_and_nothing_behind_is_read(
    stated: str | list[str],
    adapted: bool,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    says: Says,
) -> None:
    """Gemma's case: ``eos_token_id = [1, 3]``; the next turn's number was read."""
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(stated)
    said = ids_of(tokenizer, "The answer is 4 <end_of_turn> 7 7 7 7 7 7")
    steps = says(model, said)
    asked = adapt(model, LoraConfig(r=2, target_modules=["q_proj"])) if adapted else model
    (result,) = evaluate(asked, tokenizer, task, [Example("a", "tom has 3", "", "4")], 1, 12)
    assert (result.output, result.extracted, result.correct) == ("The answer is 4", "4", True)
    assert not result.truncated
    assert len(steps) == said.index(tokenizer.convert_tokens_to_ids("<end_of_turn>")) + 1


def test_a_chat_template_says_how_a_turn_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    ends = tokenizer.convert_tokens_to_ids(["</s>", "<end_of_turn>"])
    assert stop_ids(tokenizer) == ends[:1]
    for template, expected in ((GEMMA, ends), (NO_END, ends[:1]), (ROLES, ends[:1])):
        tokenizer.chat_template = template
        assert stop_ids(tokenizer) == sorted(expected)


def test_ids_of_all_three_places_are_joined(tokenizer: PreTrainedTokenizerFast) -> None:
    assert stop_ids(tokenizer, GenerationConfig()) == [2]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=7)) == [2, 7]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=[9, 2, 7])) == [2, 7, 9]
    tokenizer.eos_token = None
    assert stop_ids(tokenizer, GenerationConfig()) == []


def test_ids_up_to_the_first_stop() -> None:
    assert until_stop([5, 6, 2, 7, 2], [2, 9]) == ([5, 6], True)
    assert until_stop([5, 6], [2]) == ([5, 6], False)
    assert until_stop([2], [2]) == ([], True)
    assert until_stop([], [2]) == ([], False)


def test_what_a_model_says_of_sampling_and_penalties_is_not_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task, says: Says
) -> None:
    """Some models' generation config holds a repetition penalty, under which no one is greedy."""
    model.generation_config.update(
        do_sample=True,
        temperature=0.7,
        top_k=20,
        repetition_penalty=1e6,
        no_repeat_ngram_size=1,
        min_length=9,
    )
    says(model, ids_of(tokenizer, "7 7 7 7 </s>"))
    (output,) = answer(model, tokenizer, [Example("a", "tom", "", "7")], 1, 12)
    assert output.text.replace(" ", "") == "7777"
    assert not output.truncated


@pytest.fixture(scope="module")
def decided() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model whose large weights make every step have a clear winner, and prompts of many lengths."""
    tokenizer = word_tokenizer(
        (document.text for document in build_task("arithmetic").pretraining_texts()), split_digits=True
    )
    model = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
    return model, tokenizer


@pytest.mark.parametrize("pad", ["<pad>", "</s>"], ids=["pad", "pad = eos"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neither_padding_nor_a_pad_that_is_the_end_changes_an_answer(
    pad: str, side: str, decided: tuple[PreTrainedModel, PreTrainedTokenizerFast], task: Task
) -> None:
    model, tokenizer = decided
    examples = [
        Example(item.id, " ".join(item.prompt.split()[: 3 + place % 12]), "", item.answer)
        for place, item in enumerate(build_task("arithmetic").train[:60])
    ]
    alone = evaluate(model, tokenizer, task, examples, 1, 4)
    tokenizer.pad_token, tokenizer.padding_side = pad, side
    try:
        together = evaluate(model, tokenizer, task, examples, 60, 4)
    finally:
        tokenizer.pad_token, tokenizer.padding_side = "<pad>", "right"
    assert together == alone
    assert len({result.output for result in alone}) > 20
