"""Every model family: an adapter goes in, starts as the base, trains, generates, and comes back from disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from manifold_lora.models.load import load_adapter, load_base
from manifold_lora.models.saved.save import save_adapter

ADAPTABLE = ["llama", "gemma", "gemma3", "qwen2", "mistral", "gpt2", "mixtral"]


LEARNED = {"mode": "learned", "kappa": -0.7}


@pytest.mark.parametrize("family", ADAPTABLE)
def test_an_adapter_starts_as_the_base_and_every_part_of_it_learns(base, adapted, shake, tokens, family):
    expected = base(family)(tokens).logits
    model = adapted(family, curvature=LEARNED)
    assert torch.equal(model(tokens).logits, expected)
    shake(model)
    assert not torch.allclose(model(tokens).logits, expected)
    model(tokens, labels=tokens).loss.backward()
    adapter = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    assert {name for name in adapter if ".lora_manifold." in name}
    for name, parameter in adapter.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for name, p in model.named_parameters() if ".lora_" not in name)


@pytest.mark.parametrize("family", ADAPTABLE)
def test_generation_with_the_cache_equals_generation_without(adapted, shake, tokens, family):
    model = adapted(family, curvature=LEARNED).eval()
    shake(model)
    options = {
        "max_new_tokens": 5,
        "do_sample": False,
        "attention_mask": torch.ones_like(tokens),
        "pad_token_id": 0,
    }
    cached = model.generate(input_ids=tokens, use_cache=True, **options)
    assert cached.shape[1] > tokens.shape[1]
    assert torch.equal(cached, model.generate(input_ids=tokens, use_cache=False, **options))


@pytest.mark.parametrize("family", ADAPTABLE)
def test_a_saved_adapter_comes_back_bit_for_bit(adapted, shake, tokens, tmp_path, family):
    model = adapted(family, curvature=LEARNED).eval()
    shake(model)
    expected = model(tokens).logits
    save_adapter(model, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    again = load_adapter(tmp_path / "adapter")
    assert torch.equal(again(tokens).logits, expected)


SCRIPT = """
import json, sys
import torch
from safetensors.torch import save_file
from manifold_lora.models import load_adapter

tokens = torch.tensor(json.loads(sys.argv[1]))
with torch.no_grad():
    for folder in sys.argv[2:]:
        save_file({"logits": load_adapter(folder)(tokens).logits}, folder + "/logits.safetensors")
"""
ARMS = {
    "lorentz": {"curvature": LEARNED},
    "boost": {"transform": "boost"},
    "poincare": {"manifold": "poincare"},
    "sphere": {"manifold": "sphere"},
    "flat": {"manifold": "euclidean"},
}


def test_a_fresh_process_computes_the_same_logits(adapted, shake, tokens, tmp_path):
    expected = {}
    for arm, options in ARMS.items():
        model = shake(adapted(**options)).eval()
        with torch.no_grad():
            expected[tmp_path / arm] = model(tokens).logits
        save_adapter(model, tmp_path / arm)
    folders = [str(folder) for folder in expected]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", SCRIPT, json.dumps(tokens.tolist()), *folders]
    subprocess.run(command, check=True, env=environment)
    for folder, logits in expected.items():
        assert torch.equal(load_file(folder / "logits.safetensors")["logits"], logits), folder.name


@pytest.mark.parametrize("family", ADAPTABLE)
def test_any_family_loads_by_folder(model_folder, tokens, family):
    model, tokenizer = load_base(str(model_folder(family)))
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.decode(tokenizer("w3 w5")["input_ids"]) == "w3 w5"
    assert model(tokens).logits.shape == (*tokens.shape, len(tokenizer))


def test_bfloat16_is_asked_for_by_name(model_folder):
    model, _ = load_base(str(model_folder("llama")), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert Path(model.name_or_path) == model_folder("llama")
