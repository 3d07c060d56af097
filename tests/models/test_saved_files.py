"""Files of an adapter: the same bytes twice, any method's own state, and what a config may not ask for."""

import json
import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.config_file import check_config, check_sizes
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS
from manifold_lora.models.saved.regexes import check_regexes
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig

SAVE = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from manifold_lora.models import BottleneckConfig, ManifoldLoraConfig, save_adapter
base, folder = sys.argv[1:]
for method in (ManifoldLoraConfig, BottleneckConfig, LoraConfig):
    torch.manual_seed(0)
    targets = ["v_proj", "q_proj", "up_proj", "o_proj"]
    config = method(target_modules=targets, exclude_modules=["k_proj", "lm_head"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    save_adapter(model, f"{folder}/{method.__name__}")
    if method is not LoraConfig:
        model.save_pretrained(f"{folder}/{method.__name__}, peft")
"""


@pytest.mark.slow
def test_the_same_adapter_has_the_same_bytes_in_another_process(model_folder, tmp_path):
    """Sets are written in order, whatever order their members have in memory."""
    files = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        command = [sys.executable, "-W", "ignore", "-c", SAVE, str(model_folder("llama")), str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        files.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()})
    assert files[0] == files[1]
    assert len(files[0]) == 3 * 4 + 2 * 3


def config_of(method, **options):
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[method]](**options)


# What each needs on a tiny Llama; integers are part of what the first three save.
OTHERS = {
    "SHIRA": {"r": 2},
    "FROD": {},
    "SUPERTUNING": {},
    "ADAPTION_PROMPT": {"adapter_len": 2, "adapter_layers": 1, "target_modules": None},
    "OFT": {"oft_block_size": 4},
    "HRA": {},
    "DELORA": {},
    "VERA": {},
    "IA3": {"feedforward_modules": []},
    "C3A": {"block_size": 4},
    "CPT": {"target_modules": ...},
    "PREFIX_TUNING": {"num_virtual_tokens": 2, "target_modules": ...},
}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize("method", OTHERS)
def test_peft_s_own_methods_load_as_they_were_saved(base, tokens, tmp_path, method):
    options = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **OTHERS[method]}
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[method]](
        **{k: v for k, v in options.items() if v is not ...}
    )
    model = get_peft_model(base(), config).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    folder = save_adapter(model, tmp_path / "adapter")
    assert torch.equal(load_adapter(folder).eval()(tokens).logits, model(tokens).logits)


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_integers_of_another_type_are_refused(base, tmp_path, dtype):
    model = get_peft_model(base(), config_of("SHIRA", r=2, target_modules=["q_proj"]))
    folder = save_adapter(model, tmp_path / "adapter")
    tensors = load_file(folder / WEIGHTS)
    (name, *_) = (name for name, tensor in tensors.items() if not tensor.is_floating_point())
    assert tensors[name].dtype != dtype
    save_file({**tensors, name: tensors[name].to(dtype)}, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / MANIFEST).unlink()
    with pytest.raises(ManifoldLoraError, match="shape of adapter tensor"):
        load_adapter(folder, base())


# Where each lies, and values that no weight of 32 x 32 has.
INDICES = [
    ("SHIRA", {"r": 2}, -1),
    ("SHIRA", {"r": 2}, 32),
    ("SUPERTUNING", {}, -1),
    ("SUPERTUNING", {}, 1024),
    ("FROD", {}, -1),
    ("FROD", {}, 33),
]


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize(("method", "options", "value"), INDICES, ids=str)
def test_indices_outside_the_weights_are_refused(base, tmp_path, method, options, value):
    model = get_peft_model(base(), config_of(method, target_modules=["q_proj"], **options))
    folder = save_adapter(model, tmp_path / "adapter")
    tensors = load_file(folder / WEIGHTS)
    for name in [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        changed = {**tensors, name: tensors[name].clone()}
        changed[name].view(-1)[-1] = value
        save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / MANIFEST).unlink(missing_ok=True)
        with pytest.raises(ManifoldLoraError, match="integers of adapter"):
            load_adapter(folder, base())


@pytest.mark.filterwarnings("ignore:No value was provided")
def test_every_method_s_defaults_pass_the_checks_of_a_file():
    for method in PEFT_TYPE_TO_CONFIG_MAPPING.values():
        try:
            config = method()
        except (TypeError, ValueError, ImportError):
            continue
        raw = json.loads(json.dumps(config.to_dict(), default=sorted))
        check_sizes(raw, 0)
        if raw["peft_type"] not in ("LORA", "ADALORA", "MANIFOLD_LORA"):
            raw.pop("r", None)
        check_config(raw)


@pytest.mark.parametrize(
    "change",
    [{"bottleneck_size": 10**9}, {"r": -1}, {"init_r": 10**9}, {"num_virtual_tokens": 10**8}],
    ids=str,
)
def test_sizes_beyond_the_weights_file_are_refused(change):
    with pytest.raises(ManifoldLoraError, match="of adapter config"):
        check_sizes(change, 100)
    check_sizes(dict.fromkeys(change, 64) | {"projection_prng_key": 2**40}, 100)


NAMES = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(24) for part in "qkvo"]


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": r".*\.layers\.(0|1|23)\..*(q|v)_proj"},
        {"target_modules": r"(?:model\.)?layers\.\d+\.self_attn\.[qv]_proj", "exclude_modules": r".*\.1\..*"},
        {"rank_pattern": {r"^model\.layers\.0\.self_attn\.q_proj": 2, "q_proj": 3, r"layers\.[0-7]\..*": 4}},
        {
            "alpha_pattern": [["b_proj", 1], ["a.*", 2]],
            "layers_pattern": ["layers"],
            "modules_to_save": ["a.b"],
        },
        {"target_modules": ["((", "a+"], "target_svd_config": {"layers": 1}},
    ],
    ids=str,
)
def test_ordinary_patterns_pass(config):
    check_regexes(config, NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(([a-z0-9_.]+)+)+!", "takes more than"),
        (".*.*.*.*.*.*.*!", "takes more than"),
        ("((", "unterminated"),
    ],
)
@pytest.mark.parametrize("field", ["exclude_modules", "rank_pattern", "layers_pattern", "modules_to_save"])
def test_other_patterns_are_refused_by_field_and_reason(field, text, message):
    value = {"x": 1, text: 2} if field == "rank_pattern" else [text] if field == "modules_to_save" else text
    with pytest.raises(ManifoldLoraError, match=f"{field} of adapter config.*{message}"):
        check_regexes({"target_modules": "q.*", field: value}, NAMES)


def test_patterns_that_start_no_process(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    check_regexes({"rank_pattern": {r"^model\.layers\.0\.q_proj": 1}, "layers_pattern": "layers"}, NAMES)


@pytest.mark.parametrize("method", [ManifoldLoraConfig, BottleneckConfig, LoraConfig])
def test_the_config_is_sorted(base, tmp_path, method):
    targets = ["v_proj", "q_proj", "o_proj"]
    folder = save_adapter(get_peft_model(base(), method(target_modules=targets)), tmp_path / "adapter")
    assert json.loads((folder / CONFIG).read_text())["target_modules"] == sorted(targets)
