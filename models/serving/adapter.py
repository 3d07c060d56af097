"""A folder of a curved adapter, taken apart for a server: plain LoRA, and the gain of every module."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig
from safetensors.torch import save_file
from torch import Tensor

from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.checkpoint import one_line
from manifold_lora.models.saved.manifest import CONFIG, WEIGHTS
from manifold_lora.models.saved.regexes import check_regexes
from manifold_lora.models.saved.verify import AdapterFiles
from manifold_lora.models.saved.weights_file import read_json
from manifold_lora.models.serving.gain import ServedGain, served_gain
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.incoming import check_exponents
from manifold_lora.models.tuner.names import WRAPPER, weight_key
from manifold_lora.models.tuner.patterns import in_order
from manifold_lora.models.tuner.registration import MANIFOLD_LORA
from manifold_lora.models.tuner.variant import CONTAINER

# What a module may have besides A and B.
_GEOMETRY = f".{CONTAINER}."


def is_curved(folder: Path) -> bool:
    """Does the config name our method?"""
    try:
        return read_json(folder / CONFIG, "adapter config").get("peft_type") == MANIFOLD_LORA.value
    except ManifoldLoraError:
        return False


class ServedAdapter:
    """A curved adapter that can be served, every check of its files made before a tensor of it was read.

    Args:
        folder: what ``save_adapter`` or peft wrote.
        dtype: of the tokens that the server computes with.

    Raises ManifoldLoraError for damaged or changed files, tensors that are missing or unknown, modules that
    are trained whole, and an arm whose update a server cannot compute.
    """

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.files = AdapterFiles(folder)
        with one_line("adapter config", str(folder), "a config that save_pretrained wrote"):
            config = PeftConfig.from_pretrained(str(folder))
        assert isinstance(config, ManifoldLoraConfig)
        self._config = config
        tensors = self.files.tensors
        self.plain = {key: tensor for key, tensor in tensors.items() if _GEOMETRY not in key}
        names = [_module(key, "A") for key in self.plain if key.endswith(".lora_A.weight")]
        self._check_plain(names)
        check_regexes(self.files.config, names)
        self.gains = {name: _gain_of(name, config, tensors, dtype) for name in names}

    def shape(self, module: str) -> tuple[int, int]:
        """(n, m) of a module's input and output."""
        A, B = (self.plain[weight_key(module, part)] for part in "AB")
        return A.shape[1], B.shape[0]

    def write_plain(self, folder: Path) -> None:
        """A and B as peft's LoRA, for a server to read by its own way; alone they are not this adapter."""
        kept = {field.name for field in fields(LoraConfig) if field.init} - {"runtime_config"}
        own = in_order({key: value for key, value in vars(self._config).items() if key in kept})
        config = {**own, "peft_type": "LORA", "task_type": None}
        folder.mkdir()
        (folder / CONFIG).write_text(json.dumps(config, default=str), encoding="utf-8")
        contiguous = {key: tensor.contiguous() for key, tensor in self.plain.items()}
        save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})

    def _check_plain(self, names: list[str]) -> None:
        if self._config.modules_to_save:
            hint = "what is trained whole is another base; serve adapters of linear layers"
            raise ManifoldLoraError("modules_to_save", self._config.modules_to_save, "none", hint)
        expected = {weight_key(name, part) for name in names for part in "AB"}
        strays = {key for key in self.files.tensors if _GEOMETRY in key and _owner(key) not in names}
        odd = sorted(expected.symmetric_difference(self.plain) | strays)
        if odd or not names:
            hint = f"{len(odd)} missing or unknown, the first {odd[0]}" if odd else "it has none"
            raise ManifoldLoraError("served tensors", str(self.files.folder), "an A and a B a module", hint)
        for name in names:
            shapes = [tuple(self.plain[weight_key(name, part)].shape) for part in "AB"]
            if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][1]:
                raise ManifoldLoraError(f"A and B of {name}", shapes, "(r, n) and (m, r)")


def _module(key: str, part: str) -> str:
    return key.removeprefix(WRAPPER).removesuffix(f".lora_{part}.weight")


def _owner(key: str) -> str:
    return key.removeprefix(WRAPPER).partition(_GEOMETRY)[0]


def _gain_of(
    name: str, config: ManifoldLoraConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> ServedGain:
    """The gain of one module, its geometry loaded from the tensors of its name and no others."""
    A, B = (tensors[weight_key(name, part)] for part in "AB")
    update = ManifoldUpdate.from_spec(config.layer_spec(name), A.shape[1], B.shape[0], A.shape[0])
    prefix = f"{WRAPPER}{name}{_GEOMETRY}"
    state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    check_exponents(update, state)
    with one_line(f"geometry of {name}", ", ".join(sorted(state)), "what its config makes of it"):
        odd = update.load_state_dict(state, strict=False)
    for kind, keys in (("missing", odd.missing_keys), ("unknown", odd.unexpected_keys)):
        if keys:
            allowed, hint = "what its config makes of it", f"{kind}: {', '.join(keys)}"
            raise ManifoldLoraError(f"geometry of {name}", ", ".join(sorted(state)), allowed, hint)
    return served_gain(update, B, dtype)
