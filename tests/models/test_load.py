"""Loading: complete safetensors folders load, everything else is refused in one line that says why."""

import hashlib
import json
import re
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.load import load_adapter, load_base
from manifold_lora.models.saved.manifest import MANIFEST
from manifold_lora.models.saved.save import adapter_bytes, save_adapter
from manifold_lora.models.tuner.config import ManifoldLoraConfig


@pytest.fixture
def copied(model_folder, tmp_path):
    return shutil.copytree(model_folder("llama"), tmp_path / "llama tiny")


@pytest.fixture
def trained(adapted, shake):
    return shake(adapted()).eval()


@pytest.fixture
def saved(trained, tmp_path):
    return save_adapter(trained, tmp_path / "adapter")


UNSEALED = pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")


@pytest.fixture
def plain(trained, tmp_path):
    """An adapter as peft saves it: nothing but its own content can tell that it was tampered with."""
    trained.save_pretrained(str(tmp_path / "plain"))
    return tmp_path / "plain"


WEIGHTS = "adapter_model.safetensors"


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
    ("missing", "message"),
    [("config.json", "config.json"), ("model.safetensors", "safetensors"), ("tokenizer.json", "tokenizer")],
)
def test_an_incomplete_folder_is_refused(copied, missing, message):
    (copied / missing).unlink()
    if missing == "tokenizer.json":
        (copied / "tokenizer_config.json").unlink()
    assert message in refusal(load_base, str(copied))


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
    with pytest.warns(UserWarning, match="has no manifold_lora.json"):
        loaded = load_adapter(tmp_path / "lora")
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    assert "manifold_lora.json" in refusal(load_adapter, tmp_path / "lora", require_manifest=True)


def test_a_plain_lora_that_is_saved_by_us_is_sealed(base, shake, tokens, tmp_path):
    model = shake(get_peft_model(base(), LoraConfig(r=3, target_modules=["q_proj"], use_dora=True))).eval()
    loaded = load_adapter(save_adapter(model, tmp_path / "lora"), require_manifest=True)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def tampered(folder, change) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


@UNSEALED
@pytest.mark.parametrize("key", ["lora_A", "lora_B", "lora_manifold"])
def test_an_adapter_with_a_tensor_missing_is_refused(plain, key):
    tampered(plain, lambda tensors: tensors.pop(next(name for name in tensors if key in name)))
    message = refusal(load_adapter, plain)
    assert f"1 missing, the first {'base_model'}" in message


@UNSEALED
@pytest.mark.parametrize(
    "key", ["lm_head.lora_A.weight", "model.layers.0.self_attn.q_proj.base_layer.weight"]
)
def test_an_adapter_with_a_tensor_too_many_is_refused(plain, key):
    """The second would overwrite a weight of the base."""
    tampered(plain, lambda tensors: tensors.update({f"base_model.model.{key}": torch.zeros(32, 32)}))
    assert "1 unknown" in refusal(load_adapter, plain)


@UNSEALED
def test_an_adapter_of_another_shape_is_refused(plain):
    tampered(plain, lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(2, 3)}))
    assert "shape of adapter tensor" in refusal(load_adapter, plain)


@UNSEALED
def test_an_adapter_with_a_nan_is_refused(plain):
    tampered(plain, lambda tensors: tensors[next(iter(tensors))].fill_(float("nan")))
    assert "NaN" in refusal(load_adapter, plain)


@UNSEALED
@pytest.mark.parametrize(
    ("leaf", "number"),
    [("curvature.raw", 1e30), ("log_scale", -1e4), ("gate", 100.0), ("log_reference", 65.0)],
)
def test_an_exponent_that_no_geometry_can_use_is_refused_by_name(adapted, base, tmp_path, leaf, number):
    mode = "learned" if leaf == "curvature.raw" else "token"
    adapted(curvature={"mode": mode}).save_pretrained(str(tmp_path))
    tampered(tmp_path, lambda ts: [t.fill_(number) for name, t in ts.items() if name.endswith(leaf)])
    model = base()
    before = [name for name, _ in model.named_modules()]
    assert re.search(rf"exponent in adapter: .*{leaf}.*at most 64", refusal(load_adapter, tmp_path, model))
    assert [name for name, _ in model.named_modules()] == before
    assert leaf in refusal(PeftModel.from_pretrained, model, tmp_path)


@pytest.mark.parametrize("kind", [LoraConfig, ManifoldLoraConfig])
def test_trained_tokens_are_saved_and_loaded(base, tokens, tmp_path, kind):
    config = kind(r=2, target_modules=["q_proj"], trainable_token_indices=[5], task_type="CAUSAL_LM")
    model = get_peft_model(base(), config)
    for name, parameter in model.named_parameters():
        if "trainable_tokens_delta" in name or "lora_B" in name:
            parameter.data.add_(0.3)
    again = load_adapter(save_adapter(model, tmp_path / "adapter"), base())
    tokens[0, 0] = 5
    assert torch.equal(again.eval()(tokens).logits, model.eval()(tokens).logits)
    assert not torch.equal(again(tokens).logits, base()(tokens).logits)


@pytest.mark.parametrize("kind", [LoraConfig, ManifoldLoraConfig])
def test_replicated_layers_are_not_saved_with_a_manifest_that_cannot_hold(base, tmp_path, kind):
    config = kind(r=2, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])
    model = get_peft_model(base(), config)
    assert "layer_replication" in refusal(save_adapter, model, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@UNSEALED
def test_a_truncated_adapter_is_refused(plain):
    weights = plain / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "whole safetensors file" in refusal(load_adapter, plain)


@UNSEALED
def test_a_refused_adapter_leaves_the_model_as_it_was(plain, base, tokens):
    tampered(plain, lambda tensors: tensors.pop(next(iter(tensors))))
    model = base()
    before = [(name, type(module)) for name, module in model.named_modules()]
    expected = model(tokens).logits
    refusal(load_adapter, plain, model)
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert not hasattr(model, "peft_config")
    assert torch.equal(model(tokens).logits, expected)


def test_any_change_of_a_sealed_adapter_is_noticed(saved):
    for name in ("adapter_model.safetensors", "adapter_config.json", MANIFEST):
        path = saved / name
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"0", b"1", 1) if name != WEIGHTS else whole[:-1] + b"?")
        message = refusal(load_adapter, saved)
        assert name in message
        path.write_bytes(whole)
    load_adapter(saved)


def test_an_adapter_belongs_to_its_base_in_any_precision(saved, base, copied):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        load_adapter(saved, base(dtype=dtype))
    with torch.no_grad():
        other = base()
        next(iter(other.parameters())).mul_(1.02)
    assert "other numbers in model.embed_tokens.weight" in refusal(load_adapter, saved, other)
    assert "model_type 'gpt2'" in refusal(load_adapter, saved, base("gpt2"))
    load_adapter(saved, other, check_base=False)


def test_an_adapter_of_a_trained_peft_model_is_described_by_its_base(saved, trained, tmp_path):
    """Adapter and base are distinguished: what is saved again after loading is described in the same way."""
    again = save_adapter(load_adapter(saved), tmp_path / "again")
    first, second = (json.loads((folder / MANIFEST).read_text()) for folder in (saved, again))
    assert first["base"] == second["base"]
    assert first["tensors"] == second["tensors"]
    assert len(first["base"]["weights"]) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "install the version"),
        ({"versions": {"manifold-lora": "99.0", "peft": "0.21"}}, "pip install -U manifold-lora"),
        ({"versions": {"manifold-lora": "0.1", "peft": "0.99.1"}}, "pip install -U peft"),
        ({"versions": {"manifold-lora": "?", "peft": "0.99.1"}}, "a version"),
        ({"files": {"../../etc/passwd": {}}}, "no path"),
        ({"files": {}}, "all of its parts"),
        ({"base": None}, "all of its parts"),
        ({"tensors": {}}, "those that manifold_lora.json lists"),
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_is_refused(saved, change, message):
    manifest = json.loads((saved / MANIFEST).read_text()) | change
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    sealed = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (saved / MANIFEST).write_text(json.dumps({**body, "sha256": sealed}))
    assert message in refusal(load_adapter, saved)


def test_a_header_of_a_gigabyte_is_not_read(saved):
    with (saved / WEIGHTS).open("r+b") as file:
        file.write((2**30).to_bytes(8, "little"))
        file.truncate(2**30 + 100)  # sparse: it takes no room
    assert "claims 1073741824 bytes" in refusal(load_adapter, saved)


def test_an_adapter_on_the_hub_is_read_from_the_cache(saved, tmp_path, monkeypatch, tokens, trained):
    """The layout of the hub's cache, offline; one repository holds pickles only."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("some--adapter", "some--pickle"):
        snapshot = tmp_path / f"models--{name}" / "snapshots" / ("0" * 40)
        shutil.copytree(saved, snapshot)
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    (snapshot / WEIGHTS).rename(snapshot / "adapter_model.bin")
    assert torch.equal(load_adapter("some/adapter")(tokens).logits, trained(tokens).logits)
    assert "neither fetched nor opened" in refusal(load_adapter, "some/pickle")
    assert "a name on the Hugging Face hub" in refusal(load_adapter, "some/other")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_refused(saved, missing):
    (saved / missing).unlink()
    assert missing in refusal(load_adapter, saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own_idea": 1}, "own_idea"),
        ({"manifold": "lorenz"}, "did you mean 'lorentz'"),
        ({"curvature": 2.0}, "lorentz"),
        ({"r": 5}, "shape of adapter tensor"),
        ({"r": True}, "an integer"),
        ({"rank_pattern": {"q_proj": 10**9}}, "an integer"),
        ({"lora_alpha": 1e30}, "10^4 times the rank"),
        ({"lora_alpha": "8"}, "10^4 times the rank"),
        ({"alpha_pattern": [1]}, "a mapping"),
        ({"revision": "../../x"}, "a branch, tag or commit"),
        ({"base_model_name_or_path": 7}, "a name or null"),
        ({"target_module": ["q_proj"]}, "did you mean 'target_modules'"),
        ({"peft_type": "NO_SUCH"}, "NO_SUCH"),
        ({"use_dora": True}, "use_dora"),
    ],
    ids=str,
)
@UNSEALED
def test_a_tampered_config_is_refused(plain, change, message):
    config = json.loads((plain / "adapter_config.json").read_text())
    (plain / "adapter_config.json").write_text(json.dumps(config | change))
    assert message in refusal(load_adapter, plain)


@UNSEALED
@pytest.mark.parametrize(
    "text", ["{", "[]", '{"r": NaN}', "[" * 5000, b"\xff"], ids=lambda text: str(text)[:9]
)
def test_a_config_that_is_no_json_object_is_refused(plain, text):
    (plain / "adapter_config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "a JSON object" in refusal(load_adapter, plain)


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
    assert "No space" in refusal(save_adapter, model, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert len(list(saved.parent.glob(".adapter*"))) == 0


def test_adapter_bytes_is_what_the_tensors_take_on_disk(adapted, saved):
    tensors = load_file(saved / "adapter_model.safetensors").values()
    assert adapter_bytes(adapted()) == sum(t.numel() * t.element_size() for t in tensors)
