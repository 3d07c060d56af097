"""Loading: complete safetensors folders load, everything else is refused in one line that says why."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from manifold_lora.manifolds.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.checkpoint import adapter_bytes, save_adapter
from manifold_lora.models.load import load_adapter, load_base


@pytest.fixture
def copied(model_folder, tmp_path):
    return shutil.copytree(model_folder("llama"), tmp_path / "llama tiny")


@pytest.fixture
def trained(adapted, shake):
    return shake(adapted()).eval()


@pytest.fixture
def saved(trained, tmp_path):
    return save_adapter(trained, tmp_path / "adapter")


def refusal(call, *args, **options) -> str:
    with pytest.raises(ManifoldLoraError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_named_with_its_nearest_neighbour(copied):
    with pytest.raises(UnknownNameError, match=r"did you mean '.*llama tiny'"):
        load_base(str(copied.parent / "llama tinny"))


def test_a_path_without_any_neighbour_says_where_it_looked(tmp_path):
    assert str(tmp_path) in refusal(load_base, str(tmp_path / "a" / "b"))


def test_a_hub_name_that_is_not_in_the_cache_is_refused_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "nobody/no-such-model" in refusal(load_base, "nobody/no-such-model")


@pytest.mark.parametrize(
    ("missing", "told"),
    [("config.json", "config.json"), ("model.safetensors", "safetensors"), ("tokenizer.json", "tokenizer")],
)
def test_an_incomplete_folder_is_refused(copied, missing, told):
    (copied / missing).unlink()
    if missing == "tokenizer.json":
        (copied / "tokenizer_config.json").unlink()
    assert told in refusal(load_base, str(copied))


def test_pickled_weights_are_not_opened(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    assert "pickle" in refusal(load_base, str(copied))


def test_truncated_weights_are_refused(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model" in refusal(load_base, str(copied))


def test_a_missing_tensor_is_not_replaced_by_random_numbers(copied):
    tensors = load_file(copied / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    assert "up_proj" in refusal(load_base, str(copied))


def test_code_in_a_checkpoint_is_not_run(copied):
    config = json.loads((copied / "config.json").read_text())
    config |= {
        "model_type": "own_kind",
        "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.C"},
    }
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "evil.py").write_text("raise SystemExit('code was run')")
    assert "llama tiny" in refusal(load_base, str(copied))


def test_an_encoder_is_no_causal_language_model(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(
        json.dumps(config | {"model_type": "t5", "architectures": ["T5Model"]})
    )
    assert "causal language model" in refusal(load_base, str(copied))


def test_a_tokenizer_without_padding_gets_one(copied):
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    _, tokenizer = load_base(str(copied))
    assert tokenizer.pad_token == "<eos>"


def test_an_adapter_loads_on_a_given_base_or_finds_its_own(trained, base, saved, tokens):
    expected = trained(tokens).logits
    assert torch.equal(load_adapter(saved)(tokens).logits, expected)
    assert torch.equal(load_adapter(saved, base())(tokens).logits, expected)
    assert any(p.requires_grad for p in load_adapter(saved, is_trainable=True).parameters())
    assert not any(p.requires_grad for p in load_adapter(saved).parameters())


def test_a_plain_lora_loads_too(base, shake, tokens, tmp_path):
    model = shake(get_peft_model(base(), LoraConfig(r=3, target_modules=["q_proj"]))).eval()
    model.save_pretrained(tmp_path / "lora")
    assert torch.equal(load_adapter(tmp_path / "lora")(tokens).logits, model(tokens).logits)


def tampered(folder, change) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("key", ["lora_A", "lora_B", "lora_manifold"])
def test_an_adapter_with_a_tensor_missing_is_refused(saved, key):
    tampered(saved, lambda tensors: tensors.pop(next(name for name in tensors if key in name)))
    told = refusal(load_adapter, saved)
    assert f"1 missing, the first {'base_model'}" in told


def test_an_adapter_with_a_tensor_too_many_is_refused(saved):
    tampered(
        saved, lambda tensors: tensors.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)})
    )
    assert "1 unknown" in refusal(load_adapter, saved)


def test_an_adapter_of_another_shape_is_refused(saved):
    tampered(saved, lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(2, 3)}))
    assert "fit the model" in refusal(load_adapter, saved)


def test_an_adapter_with_a_nan_is_refused(saved):
    tampered(saved, lambda tensors: tensors[next(iter(tensors))].fill_(float("nan")))
    assert "NaN" in refusal(load_adapter, saved)


def test_a_truncated_adapter_is_refused(saved):
    weights = saved / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "fit the model" in refusal(load_adapter, saved)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_refused(saved, missing):
    (saved / missing).unlink()
    assert missing in refusal(load_adapter, saved)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"own_idea": 1}, "own_idea"),
        ({"manifold": "lorenz"}, "did you mean 'lorentz'"),
        ({"curvature": 2.0}, "lorentz"),
        ({"r": 5}, "fit the model"),
        ({"peft_type": "NO_SUCH"}, "NO_SUCH"),
        ({"use_dora": True}, "use_dora"),
    ],
    ids=str,
)
def test_a_tampered_config_is_refused(saved, change, told):
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps(config | change))
    assert told in refusal(load_adapter, saved)


def test_a_config_that_is_no_json_is_refused(saved):
    (saved / "adapter_config.json").write_text("{")
    assert "adapter" in refusal(load_adapter, saved)


def test_saving_replaces_the_folder_whole_and_leaves_nothing_beside_it(adapted, shake, saved, tokens):
    (saved / "stale").write_text("from before")
    model = shake(adapted(), scale=0.1).eval()
    assert save_adapter(model, saved) == saved
    assert [path.name for path in saved.parent.iterdir() if "adapter" in path.name] == ["adapter"]
    assert not (saved / "stale").exists()
    assert torch.equal(load_adapter(saved)(tokens).logits, model(tokens).logits)


def test_a_failed_save_keeps_the_old_folder(saved, monkeypatch, adapted):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    model = adapted()
    monkeypatch.setattr(PeftModel, "save_pretrained", no_space)
    with pytest.raises(OSError, match="No space"):
        save_adapter(model, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert len(list(saved.parent.glob(".adapter*"))) == 0


def test_adapter_bytes_is_what_the_tensors_take_on_disk(adapted, saved):
    tensors = load_file(saved / "adapter_model.safetensors").values()
    assert adapter_bytes(adapted()) == sum(t.numel() * t.element_size() for t in tensors)
