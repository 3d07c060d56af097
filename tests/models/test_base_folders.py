"""Base folders that cannot be: refused in one line within seconds, for their config or their weights."""

import json
import os
import shutil
import time
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.preflight import check_model
from manifold_lora.experiments.settings.run import ModelSettings
from manifold_lora.models.load import load_base


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of a tiny Llama of two layers."""
    return shutil.copytree(model_folder("llama"), tmp_path / "base")


def change(folder, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(folder, seconds: float = 10.0) -> str:
    start = time.process_time()
    with pytest.raises(ManifoldLoraError) as caught:
        load_base(str(folder))
    assert time.process_time() - start < seconds
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layers", [10**6, 10**12, 0, -1])
def test_more_layers_than_tensors_are_refused(folder, layers):
    change(folder, num_hidden_layers=layers)
    assert f"num_hidden_layers of model: got {layers}" in refusal(folder)


def test_a_config_that_leaves_layers_out_is_another_model(folder):
    change(folder, num_hidden_layers=1)
    assert "weights of model: got 'model.layers.1'" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["hidden_size", "intermediate_size", "vocab_size", "head_dim", "num_attention_heads"]
)
@pytest.mark.parametrize("size", [10**7, 10**9, 10**18])
def test_more_numbers_than_the_weights_hold_are_refused(folder, name, size):
    change(folder, **{name: size})
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("theta", [0, 0.0, float("nan"), -1.0, "x"], ids=str)
def test_a_rotary_base_that_gives_no_angles_is_refused(folder, theta):
    change(folder, rope_parameters={"rope_type": "default", "rope_theta": theta})
    refusal(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_that_is_not_finite_is_named(folder, number, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = number
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "NaN or infinity in model.layers.1.mlp.up_proj.weight" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refusal(folder)


@pytest.mark.parametrize("key", ["vocab_size", "num_attention_heads", "hidden_size", "rms_norm_eps"])
@pytest.mark.parametrize("value", [0, -1, "x", None, [1], 1e300], ids=str)
def test_a_value_of_no_use_is_refused_or_does_no_harm(folder, key, value):
    change(folder, **{key: value})
    with suppress(ManifoldLoraError):
        model, _ = load_base(str(folder))
        assert model(torch.arange(4, 9)[None]).logits.isfinite().all()


def test_a_large_but_true_config_loads(folder):
    change(folder, max_position_embeddings=10**6)
    assert load_base(str(folder))[0].config.max_position_embeddings == 10**6


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"eos_token_id": "</s>"}', '{"eos_token_id": [1, null]}', '{"eos_token_id": true}']
)
def test_stop_tokens_that_nobody_can_read_are_not_passed_over(folder, text):
    """transformers logs a line, and the model writes on behind its answers."""
    (folder / "generation_config.json").write_text(text)
    assert "generation config" in refusal(folder)


@pytest.mark.parametrize("eos", [2, [1, 2], None])
def test_stop_tokens_as_models_state_them(folder, eos):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    assert load_base(str(folder))[0].generation_config.eos_token_id == eos


def add_tokens(folder, *contents, vocabulary=False, **named) -> int:
    """Put tokens into tokenizer.json from the first id without an embedding on; that id."""
    first = json.loads((folder / "config.json").read_text())["vocab_size"]
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    for place, content in enumerate(contents, start=first):
        tokenizer["added_tokens"].append({"id": place, "content": content, "special": True})
        if vocabulary:
            tokenizer["model"]["vocab"][content] = place
    path.write_text(json.dumps(tokenizer))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    return first


@pytest.mark.parametrize("key", ["attention_dropout", "resid_pdrop", "hidden_dropout_prob"])
@pytest.mark.parametrize("value", [2, -0.1, float("nan")], ids=str)
def test_a_dropout_that_is_no_share_is_refused_before_anything_is_loaded(folder, key, value):
    check_model(ModelSettings(name=str(folder)))
    change(folder, text_config={key: value})
    with pytest.raises(ManifoldLoraError, match=f"{key} of model: got .*; allowed: a number from 0 to 1"):
        check_model(ModelSettings(name=str(folder)))


def test_a_token_without_an_embedding_is_refused_before_anything_is_loaded(folder):
    first = add_tokens(folder, "<image>")
    check_model(ModelSettings(name=str(folder)))  # no text has it
    add_tokens(folder, "<image>", pad_token="<image>")
    with pytest.raises(ManifoldLoraError, match=f"token id of .*: got {first}; allowed: 0 to {first - 1}"):
        check_model(ModelSettings(name=str(folder)))


def test_a_word_without_an_embedding_is_refused_before_anything_is_loaded(folder):
    first = add_tokens(folder, "one", "two", vocabulary=True)
    with pytest.raises(ManifoldLoraError, match=f"token id of .*: got {first + 1}"):
        check_model(ModelSettings(name=str(folder)))


@pytest.mark.parametrize("text", ["[]", '{"model": null}', '{"added_tokens": [1]}', "{"])
def test_a_tokenizer_that_is_none_is_left_to_whoever_loads_it(folder, text):
    (folder / "tokenizer.json").write_text(text)
    check_model(ModelSettings(name=str(folder)))
