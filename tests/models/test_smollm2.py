"""The first real model: what its file says is what is loaded, and its own tokenizer serves the runner."""

import pytest
import torch

from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.run import TaskSettings
from manifold_lora.experiments.training.encoding import (
    IGNORED,
    encode_examples,
    encode_prompts,
    pad_id,
    pad_left,
    pad_right,
)
from manifold_lora.models.load import load_base, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return load_tokenizer(smollm2)


@pytest.fixture(scope="module")
def examples():
    return task_of(TaskSettings(name="arithmetic", limit=8), "smollm2").train


def test_padding_is_the_end_of_sequence_and_the_end_is_learned(tokenizer, examples):
    """Where the two are one token, masking the padding by its id would hide the end from the loss."""
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    encoded = encode_examples(tokenizer, examples)
    batch = pad_right(encoded, pad_id(tokenizer))
    for row, item in zip(range(len(encoded)), encoded, strict=True):
        length = len(item["input_ids"])
        labels = batch["labels"][row]
        assert labels[length - 1] == tokenizer.eos_token_id
        assert (labels[length:] == IGNORED).all()
        assert batch["attention_mask"][row].sum() == length
        learned = labels[labels != IGNORED]
        assert tokenizer.decode(learned, skip_special_tokens=True) == examples[row].target


def test_prompts_have_the_same_ids_in_training_and_generation(tokenizer, examples):
    prompts = encode_prompts(tokenizer, [example.prompt for example in examples])
    for prompt, item in zip(prompts, encode_examples(tokenizer, examples), strict=True):
        assert item["input_ids"][: len(prompt)] == prompt
        assert set(item["labels"][: len(prompt)]) == {IGNORED}
    batch = pad_left(prompts, pad_id(tokenizer))
    assert (batch["input_ids"][:, -1] == torch.tensor([prompt[-1] for prompt in prompts])).all()
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(prompt) for prompt in prompts]


def test_the_chat_template_opens_and_closes_turns(tokenizer):
    messages = [{"role": "user", "content": "How many?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n")


def test_the_model_speaks_alone_and_padded_alike(smollm2, tokenizer):
    model, _ = load_base(smollm2, dtype="float32")
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    prompts = encode_prompts(tokenizer, ["The capital of France is", "One, two, three, four, five, six,"])
    padded = pad_left(prompts, pad_id(tokenizer))
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": pad_id(tokenizer)}
    message = []
    for prompt in prompts:
        message.append(model.generate(torch.tensor([prompt]), **options)[0, len(prompt) :])
    together = model.generate(**padded, **options)[:, padded["input_ids"].shape[1] :]
    assert [tokenizer.decode(ids) for ids in message] == [tokenizer.decode(ids) for ids in together]
    assert tokenizer.decode(message[0]).strip().startswith("Paris")
    assert tokenizer.decode(message[1]).strip().startswith("seven")
