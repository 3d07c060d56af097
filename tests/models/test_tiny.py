"""Tiny models: every family runs, the seed decides, and the tokenizer gives the text back."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from manifold_lora.errors import UnknownNameError
from manifold_lora.models.tiny import FAMILIES, tiny_model, word_tokenizer

TEXTS = ["tom has 12 apples .", "up bodi => kela", "N0 + N1"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_and_comes_back_from_disk(family: str, tmp_path: Path) -> None:
    model = tiny_model(40, family=family, hidden_size=32, layers=2, heads=2, intermediate_size=64).eval()
    ids = torch.arange(4, 12)[None]
    logits = model(input_ids=ids).logits
    assert logits.shape == (1, 8, 40)
    assert logits.isfinite().all()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(input_ids=ids).logits, logits)
    assert again.config.eos_token_id == 2


def test_the_seed_decides_and_the_global_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    first, same, other = (tiny_model(20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [model.get_input_embeddings().weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'llama'"):
        tiny_model(20, family="lama")


@given(st.lists(st.sampled_from(["tom", "has", "12", "7", "=>", "N0", "+"]), min_size=1))
@pytest.mark.parametrize("split_digits", [False, True])
def test_known_text_is_decoded_as_it_was(split_digits: bool, words: list[str]) -> None:
    tokenizer = word_tokenizer(["tom has 12 7 => N0 +"], split_digits=split_digits)
    text = " ".join(words)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_digits_are_tokens_of_their_own() -> None:
    tokenizer = word_tokenizer(["a 12 34"], split_digits=True)
    assert tokenizer.decode(tokenizer("a 4321")["input_ids"], skip_special_tokens=True) == "a 4321"
    assert tokenizer.unk_token_id in tokenizer("a 5")["input_ids"]


def test_special_tokens_and_rare_words() -> None:
    tokenizer = word_tokenizer(["a a b", "A"], lowercase=True, min_count=2)
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id] == [0, 1, 2]
    assert tokenizer("A b")["input_ids"] == [1, 4, 3]
    assert tokenizer("", add_special_tokens=False)["input_ids"] == []


def test_the_tokenizer_comes_back_from_disk(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(TEXTS, split_digits=True)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.pad_token_id == 0
