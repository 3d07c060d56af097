"""R11: tampered adapters are refused in one line; no traceback, no code run, no module of the base touched.

Each is tried three ways: as left (the manifest tells), with the manifest written anew over the tampered
files, and without a manifest, as the adapters of peft itself are.
"""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_runs import load_small, save_base
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.models.load import load_adapter, load_base
from manifold_lora.models.saved.manifest import MANIFEST, _digest, write_manifest
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tiny import tiny_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Tamper = Callable[[Path], None]


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Tamper:
    def tamper(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return tamper


def config(**change: object) -> Tamper:
    def tamper(folder: Path) -> None:
        data = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(data | change))

    return tamper


def manifest(change: Callable[[dict[str, object]], object]) -> Tamper:
    def tamper(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        change(data)
        (folder / MANIFEST).write_text(json.dumps(data))

    return tamper


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def bomb(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))


def renamed_bomb(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))


def flip(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 0x7F  # the exponent of the last number
    (folder / WEIGHTS).write_bytes(data)


def drop_half(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors)[::2]:
        del tensors[name]


def wrong_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = tensors[name].T.contiguous()


def huge_header(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(struct.pack("<Q", 2**30))
        file.truncate(2**30 + 4096)


def truncate(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-64])


def memory(name: str) -> Tamper:
    """A file that can be opened, and not read."""

    def tamper(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/proc/self/mem")

    return tamper


def first(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return tensors[next(iter(tensors))]


FOURTEEN: dict[str, Tamper] = {
    "half the keys gone": weights(drop_half),
    "extra keys": weights(lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 16)})),
    "NaN weights": weights(lambda t: first(t).fill_(float("nan"))),
    "flipped byte": flip,
    "wrong shape": weights(wrong_shape),
    "wrong rank": config(r=3),
    "truncation": truncate,
    "pickle bomb": bomb,
    "unknown config key": config(target_module=["q_proj"]),
    "alpha 1e30": config(lora_alpha=1e30),
    "other base model": config(base_model_name_or_path="OTHER"),
    "version mismatch": manifest(lambda m: m["versions"].update({"manifold-lora": "99.1"})),
    "path traversal": manifest(lambda m: m["files"].update({"../../outside": {"bytes": 0, "sha256": ""}})),
    "1 GB header": huge_header,
}
# What only a manifest can tell: a flipped bit of a number is another number, and a base may be moved.
SEALED_ONLY = {"flipped byte", "other base model", "version mismatch", "path traversal"}
MORE: dict[str, Tamper] = {
    "pickle under safetensors' name": renamed_bomb,
    "a weight of the base among the keys": weights(
        lambda t: t.update(
            {"base_model.model.model.layers.0.mlp.up_proj.base_layer.weight": torch.zeros(32, 16)}
        )
    ),
    "Inf": weights(lambda t: first(t).fill_(float("inf"))),
    "integers": weights(lambda t: t.update({next(iter(t)): first(t).to(torch.int32)})),
    "an empty file": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "a config that is a list": lambda folder: (folder / CONFIG).write_text("[]"),
    "a config nested without end": lambda folder: (folder / CONFIG).write_text("[" * 100_000),
    "rank 0": config(r=0),
    "rank 10^9": config(r=10**9),
    "rank of one module": config(rank_pattern={"q_proj": 3}),
    "alpha NaN": config(lora_alpha=float("nan")),
    "alpha of one module": config(alpha_pattern={"q_proj": -1e30}),
    "unknown method": config(peft_type="../LORA"),
    "unknown geometry": config(manifold="lorenz"),
    "curvature of the wrong sign": config(curvature=3.0),
    "curvature not finite": config(curvature=float("inf")),
    "unknown target": config(target_modules=["q_porj"]),
    "no target": config(target_modules=[]),
    "revision that climbs": config(revision="../../x"),
    "name with NUL": config(base_model_name_or_path="a\0b"),
    "a number that float32 lacks": weights(lambda t: t.update({next(iter(t)): first(t).double() + 1e300})),
    "numbers whose product float32 lacks": weights(lambda t: first(t).fill_(1e38)),
    "text for true or false": config(use_rslora="false"),
    "a key given twice": lambda folder: (folder / CONFIG).write_text(
        (folder / CONFIG).read_text().rstrip()[:-1] + ', "lora_alpha": 800}'
    ),
    "a curvature whose radius float32 lacks": config(curvature=-1e40),
    "a memory as weights": memory(WEIGHTS),
    "a memory as config": memory(CONFIG),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = load_small("direct", base)
    with torch.no_grad():
        for name, parameter in small.model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.1)
    return save_adapter(small.model, tmp_path_factory.mktemp("saved") / "adapter")


def refused(folder: Path, model: torch.nn.Module) -> bool:
    """Refused in one line, with no code run and no module of the model touched."""
    before = [(name, id(module)) for name, module in model.named_modules()]
    with pytest.raises(ManifoldLoraError) as caught:
        load_adapter(folder, model)
    untouched = [(name, id(module)) for name, module in model.named_modules()] == before
    return untouched and "\n" not in str(caught.value) and not Path("bomb-went-off").exists()


def as_left(folder: Path, tamper: Tamper, base: Path) -> None:
    tamper(folder)


def resealed(folder: Path, tamper: Tamper, base: Path) -> None:
    tamper(folder)
    try:
        write_manifest(folder, AutoModelForCausalLM.from_pretrained(base))
    except (ManifoldLoraError, OSError):
        return  # nobody can seal these


def unsealed(folder: Path, tamper: Tamper, base: Path) -> None:
    tamper(folder)
    (folder / MANIFEST).unlink()


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("way", [as_left, resealed, unsealed], ids=lambda way: way.__name__)
@pytest.mark.parametrize("tampers", [FOURTEEN, MORE], ids=["fourteen", "more"])
def test_tampered_adapters_are_refused(
    tampers: dict[str, Tamper],
    way: Callable[[Path, Tamper, Path], None],
    base: Path,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally,
) -> None:
    monkeypatch.chdir(tmp_path)
    model, _ = load_base(str(base))
    chosen = [name for name in tampers if way is as_left or name not in SEALED_ONLY]
    passed = []
    for name in chosen:
        folder = shutil.copytree(adapter, tmp_path / name)
        way(folder, tampers[name], base)
        passed.append(refused(folder, model))
    kind = "the fourteen" if tampers is FOURTEEN else "others"
    tally("R11", f"tampered adapters, {kind}, {way.__name__.replace('_', ' ')}", sum(passed), len(chosen))


def test_another_base_is_refused(base: Path, adapter: Path, tmp_path: Path, tally) -> None:
    """Of another size, of another family, and of the same size with other weights."""
    size = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32}
    vocabulary = AutoModelForCausalLM.from_pretrained(base).config.vocab_size
    others = [
        tiny_model(vocabulary, **{**size, "layers": 3}),
        tiny_model(vocabulary, family="qwen2", **size),
        tiny_model(vocabulary, seed=1, **size),
        tiny_model(vocabulary + 1, **size),
    ]
    tally(
        "R11",
        "bases of other shape, family, weights, vocabulary",
        sum(refused(adapter, o) for o in others),
        4,
    )


# peft asks a model for is_gradient_checkpointing.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "name", ["half the keys gone", "extra keys", "NaN weights", "Inf", "a number that float32 lacks"]
)
def test_plain_peft_refuses_what_its_own_tuner_can_see(
    name: str, base: Path, adapter: Path, tmp_path: Path, tally
) -> None:
    """``PeftModel.from_pretrained`` and ``AutoPeftModel`` read no manifest, but come by our tuner."""
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    {**FOURTEEN, **MORE}[name](folder)
    passed = 0
    for load in (
        lambda: PeftModel.from_pretrained(load_base(str(base))[0], folder),
        lambda: AutoPeftModelForCausalLM.from_pretrained(folder),
    ):
        with pytest.raises(ManifoldLoraError, match="tensors of adapter"):
            load()
        passed += 1
    tally("R11", f"plain peft: {name}", passed, 2)


def test_what_a_manifest_says_of_its_base_stays_on_one_line(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    write_manifest(folder, AutoModelForCausalLM.from_pretrained(base))
    data = json.loads((folder / MANIFEST).read_text())
    data["base"] |= {"name": "a\nb\x1b[31m\u202e", "config": {"hidden_size": 3}}
    (folder / MANIFEST).write_text(json.dumps(data | {"sha256": _digest(data)}))
    with pytest.raises(ManifoldLoraError, match=r"a\\nb\\x1b\[31m\\u202e with hidden_size 3"):
        load_adapter(folder, load_base(str(base))[0])


def test_the_untampered_adapter_loads(base: Path, adapter: Path) -> None:
    assert load_adapter(adapter, load_base(str(base))[0], require_manifest=True) is not None


def test_the_command_line_says_one_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tally
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--model", str(base), "--task", "taxonomy", "--task.style", "equation", "--task.limit", "24"]
    flags += ["--train.steps", "1", "--adapter.rank", "2", "--cache", "cache"]
    assert main(["train", "--arm", "direct", "--output", "run", *flags]) == 0
    capsys.readouterr()
    passed = 0
    for name, tamper in FOURTEEN.items():
        shutil.copytree("run", name)
        tamper(Path(name) / "adapter")
        code, message = main(["evaluate", name]), capsys.readouterr().err.splitlines()
        lines = [line for line in message if line.strip() and "Loading weights" not in line]
        passed += code == 2 and len(lines) == 1 and lines[0].startswith("manifold-lora evaluate: ")
    assert not Path("bomb-went-off").exists()
    tally("R11", "manifold-lora evaluate: exit 2 and one line", passed, len(FOURTEEN))
