"""Prompts: the frames as published, a chat template without a doubled start, labels where they belong."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.run import TaskSettings
from manifold_lora.experiments.tasks import Example
from manifold_lora.experiments.tasks.templates import ALPACA, PLAIN, template_of
from manifold_lora.experiments.training.encoding import IGNORED, encode_examples, encode_prompts
from manifold_lora.models.tiny import word_tokenizer

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}[model]{% endif %}"
)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(["[user] [model] what is it ? Question: Answer: four"])


@pytest.fixture
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_the_frames_as_published() -> None:
    assert PLAIN.render("What?") + PLAIN.target("4") == "Question: What?\nAnswer: 4"
    assert ALPACA.render("What?") + ALPACA.target("4") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nWhat?\n\n### Response:\n4"
    )
    assert template_of("alpaca", "any/model") is ALPACA


def test_a_chat_prompt_is_the_models_own_with_one_start(folder: str, tokenizer) -> None:
    template = template_of("chat", folder)
    prompt = template.render("what is it ?")
    assert prompt == "[user] what is it ? [model]"
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "what is it ?"}], add_generation_prompt=True, tokenize=False
    )
    ids = encode_prompts(tokenizer, [prompt])[0]
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_chat_template_reaches_the_task(folder: str, tmp_path: Path) -> None:
    rows = (
        '{"question": "what is it ?", "answer": "x\\n#### 4"}\n{"question": "is it ?", "answer": "\\n#### 4"}'
    )
    for name, text in {
        "train/gsm8k_train.jsonl": rows,
        "tests/gsm8k.json": '[{"id": "a", "instruction": "what ?", "answer": "4"}]',
    }.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = TaskSettings(name="gsm8k", data=tmp_path / "data", template="chat")
    assert task_of(settings, folder).tests["gsm8k"][0].prompt == "[user] what ? [model]"


def test_a_model_without_a_chat_template_is_refused(folder: str) -> None:
    (Path(folder) / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ManifoldLoraError, match=r"task\.template: alpaca or plain"):
        template_of("chat", folder)
    with pytest.raises(ManifoldLoraError, match="did you mean 'alpaca'"):
        template_of("alpacca", folder)
    with pytest.raises(ManifoldLoraError, match="model folder"):
        template_of("chat", f"{folder}/none")


@pytest.mark.parametrize("learn_prompt", [False, True])
def test_the_loss_counts_the_answer_or_all(learn_prompt: bool, tokenizer) -> None:
    example = Example("a", "what is it ?", "four", "4", learn_prompt=learn_prompt)
    (pair,) = encode_examples(tokenizer, [example])
    prompt = encode_prompts(tokenizer, ["what is it ?"])[0]
    assert pair["input_ids"][: len(prompt)] == prompt
    assert pair["input_ids"][-1] == tokenizer.eos_token_id
    behind = pair["input_ids"][len(prompt) :]
    assert pair["labels"] == (pair["input_ids"] if learn_prompt else [IGNORED] * len(prompt) + behind)


def test_word_problems_take_the_template_too(tmp_path: Path) -> None:
    import json

    row = {"source": "s", "output": "The equation is X=3+2. The answer is 5.", "answer": "5"}
    for stem, number in (("mawps_train", 3), ("mawps_single_train", 4), ("mawps_valid", 5)):
        path = tmp_path / "train" / f"{stem}_equations.jsonl"
        path.parent.mkdir(exist_ok=True)
        value = {"instruction": f"Add {number} to 2", "equation": f"X={number}+2", "answer": f"{number + 2}"}
        path.write_text(json.dumps(row | value))
    for name in ("mawps", "AddSub", "SVAMP"):
        path = tmp_path / "tests" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{"id": "a", "instruction": f"{name} 1?", "answer": "1"}]))
    settings = TaskSettings(name="word_problems", data=tmp_path, template="alpaca")
    task = task_of(settings, "some/model")
    assert task.train[0].prompt == ALPACA.render("Add 3 to 2") or task.train[0].prompt == ALPACA.render(
        "Add 4 to 2"
    )
    scored = task.score(task.tests["mawps"][0], "The answer is 1.")
    assert (scored.correct, scored.second, scored.agree) == (True, "1", True)
    assert task_of(settings, "embedded").train[0].prompt.startswith("add N0")
