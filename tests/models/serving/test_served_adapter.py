"""A folder taken apart for a server: every check first, A and B as peft's LoRA, unsupported arms by name."""

import json
import sys
import types

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.serving import plugin
from manifold_lora.models.serving.adapter import ServedAdapter, is_curved
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig


@pytest.fixture
def saved(base, tmp_path):
    """Saves an adapter of the given parts and returns its folder."""

    def save(**parts):
        config = ManifoldLoraConfig(r=2, target_modules=["q_proj", "down_proj"], **parts)
        model = adapt(base("llama"), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1)
        return save_adapter(model, tmp_path / "adapter")

    return save


def test_a_and_b_are_those_of_a_plain_lora(saved, base, tmp_path):
    folder = saved(rank_pattern={"q_proj": 3}, use_rslora=True)
    adapter = ServedAdapter(folder, torch.float32)
    assert set(adapter.gains) == {
        f"model.layers.{i}.{name}" for i in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")
    }
    adapter.write_plain(tmp_path / "plain")
    plain = PeftModel.from_pretrained(base("llama"), str(tmp_path / "plain"))
    curved = PeftModel.from_pretrained(base("llama"), str(folder))
    for name, layer in plain.named_modules():
        if hasattr(layer, "lora_A"):
            other = curved.get_submodule(name)
            assert layer.scaling == other.scaling
            assert torch.equal(layer.lora_A.default.weight, other.lora_A.default.weight)
    assert adapter.shape("model.layers.0.mlp.down_proj") == (48, 32)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"transform": "boost"}, "boost on lorentz"),
        ({"token_norms": "shuffled"}, "shuffled"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
    ids=str,
)
def test_an_arm_that_no_server_computes_is_refused_by_name(saved, parts, named):
    with pytest.raises(ManifoldLoraError, match=named):
        ServedAdapter(saved(**parts), torch.float32)


def test_a_changed_file_is_refused(saved):
    folder = saved()
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-3] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ManifoldLoraError, match="damaged, or changed after it was saved"):
        ServedAdapter(folder, torch.float32)


@pytest.mark.parametrize(
    ("change", "message"), [("drop", "missing: norm_scaling.log_scale"), ("stray", "missing or unknown")]
)
@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
def test_without_a_manifest_tensors_are_still_those_of_the_config(saved, change, message):
    folder = saved()
    (folder / MANIFEST).unlink()
    tensors = load_file(folder / WEIGHTS)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_manifold.norm_scaling.log_scale"
    moved = tensors.pop(key)
    if change == "stray":
        tensors[key.replace("q_proj", "k_proj")] = moved
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ManifoldLoraError, match=message):
        ServedAdapter(folder, torch.float32)


def test_what_is_curved_is_known_by_its_config(saved, tmp_path):
    folder = saved()
    assert is_curved(folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "peft_type": "LORA"}))
    assert not is_curved(folder)
    assert not is_curved(tmp_path / "nowhere")


class Request:
    def __init__(self, path):
        self.lora_path = str(path)


def fake_vllm(version, monkeypatch):
    """What the plugin imports of vLLM, with a loader that says what it was given."""

    class Loader:
        def _load_adapter(self, lora_request):
            return lora_request

    class Evicting(Loader):
        def _apply_adapters(self, lora_requests):
            return None

    class Manager:
        def activate_adapter(self, lora_id):
            return False

    class Layer:
        def set_mapping(self, punica_wrapper):
            return None

    modules = {
        "vllm": {"__version__": version},
        "vllm.lora": {},
        "vllm.lora.layers": {},
        "vllm.lora.layers.base_linear": {"BaseLinearLayerWithLoRA": Layer},
        "vllm.lora.model_manager": {"LoRAModelManager": Manager},
        "vllm.lora.worker_manager": {"LRUCacheWorkerLoRAManager": Evicting, "WorkerLoRAManager": Loader},
    }
    for name, names in modules.items():
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    return Loader, Manager


def test_an_unknown_vllm_is_left_alone_but_for_a_refusal(saved, tmp_path, monkeypatch):
    loader, manager = fake_vllm("0.99.1", monkeypatch)
    kept = manager.activate_adapter
    with pytest.warns(UserWarning, match=r"vLLM 0\.99\.1 is not known, only 0\.32; curved adapters are not"):
        plugin.register()
    plugin.register()
    assert manager.activate_adapter is kept
    plain = Request(tmp_path)
    assert loader()._load_adapter(plain) is plain
    with pytest.raises(ManifoldLoraError, match=r"got .*allowed: vLLM 0\.32; vLLM 0\.99"):
        loader()._load_adapter(Request(saved()))


def test_a_method_with_other_parameters_is_an_unknown_vllm(monkeypatch):
    _, manager = fake_vllm("0.32.1+cpu", monkeypatch)
    monkeypatch.setattr(manager, "activate_adapter", lambda self, lora_id, slot: None)
    with pytest.warns(UserWarning, match=r"activate_adapter of vLLM 0\.32\.1\+cpu takes"):
        plugin.register()
