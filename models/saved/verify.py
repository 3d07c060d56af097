"""An adapter's files, verified before a model is touched: what peft would load in silence is refused."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.base_identity import check_base
from manifold_lora.models.saved.config_file import check_config, check_sizes
from manifold_lora.models.saved.folders import check_adapter_folder
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS, read_manifest, tensor_facts
from manifold_lora.models.saved.regexes import check_regexes
from manifold_lora.models.saved.weights_file import check_finite, check_header, read_json, read_tensors
from manifold_lora.models.tuner.incoming import check_exponents, check_size
from manifold_lora.models.tuner.names import WRAPPER
from manifold_lora.models.vocabulary import check_embeddings, embeddings

# Where peft keeps an embedding of which it trains some tokens, or a copy.
_INSIDE = ("", ".token_adapter.base_layer", ".original_module")


class AdapterFiles:
    """The config, weights and manifest of a folder, of which each has been checked by itself.

    Args:
        folder: what ``save_adapter`` or peft's ``save_pretrained`` wrote. Without a manifest, which only
            ``save_adapter`` writes, hashes, base and versions cannot be checked, which a warning says.
        require_manifest: refuse a folder without a manifest.

    Raises ManifoldLoraError, before peft reads anything.
    """

    def __init__(self, folder: Path, require_manifest: bool = False) -> None:
        check_adapter_folder(folder)
        self.folder = folder
        check_header(folder / WEIGHTS)
        self.manifest = read_manifest(folder)
        if self.manifest is None:
            self._without_manifest(require_manifest)
        self.config = read_json(folder / CONFIG, "adapter config")
        check_config(self.config)
        self.tensors = read_tensors(folder / WEIGHTS)
        check_finite("tensors of adapter", self.tensors)
        check_sizes(self.config, sum(tensor.numel() for tensor in self.tensors.values()))
        if self.manifest is not None and self.manifest["tensors"] != tensor_facts(self.tensors):
            raise ManifoldLoraError(
                "tensors of adapter", str(folder / WEIGHTS), f"those that {MANIFEST} lists"
            )

    def add_tokens(self, model: PreTrainedModel) -> None:
        """Give a base model the tokens that the adapter brings embeddings of, where it has fewer."""
        own = embeddings(model)
        names = [name for name, p in model.named_parameters(remove_duplicate=False) if id(p) in own]
        modules = [WRAPPER + name.removesuffix(".weight") for name in names]
        keys = {f"{module}{inside}.weight" for module in modules for inside in _INSIDE}
        rows = [len(self.tensors[key]) for key in keys & self.tensors.keys()]
        if rows and max(rows) > max(map(len, own.values())):
            model.resize_token_embeddings(max(rows), mean_resizing=False)

    def check_base(self, model: nn.Module) -> None:
        """Raise ManifoldLoraError if the manifest names another base model than this one."""
        if self.manifest is not None:
            described = self.manifest["base"]
            # New tokens make an embedding another one; ``check_fit`` compares its other rows.
            weights = {k: v for k, v in described["weights"].items() if WRAPPER + k not in self.tensors}
            check_base({**described, "weights": weights}, model)

    def check_fit(self, model: nn.Module, config: PeftConfig) -> None:
        """Raise ManifoldLoraError unless the tensors are those the model takes, by name, shape and bounds.

        ``model`` is left as it is: the adapter is put on a copy of its modules that shares all weights.
        """
        check_regexes(self.config, [name for name, _ in model.named_modules()])
        shared: dict[int, Any] = {id(t): t for t in chain(model.parameters(), model.buffers())}
        # Without storage where that can be: AdaLoRA looks at values to tell which ranks were kept, and
        # integers have to fit those of the model.
        whole = any(_is_integer(tensor) for tensor in self.tensors.values())
        empty = not (whole or isinstance(config, AdaLoraConfig))
        skeleton = PeftModel(copy.deepcopy(model, shared), _uninitialised(config), low_cpu_mem_usage=empty)
        expected = get_peft_model_state_dict(skeleton, save_embedding_layers=False)
        tied = embeddings(model)
        named = skeleton.named_parameters(remove_duplicate=False)
        brought = {name: p for name, p in named if id(p) in tied and name in self.tensors}
        # Prompts of peft have no tuner around the model.
        remove: Any = getattr(type(skeleton.base_model), "_remove_adapter_name_from_key", None)

        def bare(name: str) -> str:
            return name if remove is None else str(remove(name, "default"))

        self._check_keys({**brought, **self._second_names(skeleton, expected, bare), **expected})
        self._check_integers(skeleton, expected)
        check_embeddings(
            model, {name: self.tensors[name] for name in brought if name not in expected}, brought
        )
        check_exponents(skeleton, self.tensors, bare)
        check_size(self.tensors)

    def _second_names(
        self, skeleton: nn.Module, expected: Mapping[str, Tensor], bare: Callable[[str], str]
    ) -> dict[str, Tensor]:
        """The tensors that peft writes twice where a vocabulary was resized, by their second names.

        These are modules that are trained whole and the new tokens of a tied embedding. Raises
        ManifoldLoraError where the two differ.
        """
        firsts: dict[int, str] = {}
        found = {}
        for name, parameter in skeleton.named_parameters(remove_duplicate=False):
            key = bare(name)
            if key in expected:
                firsts.setdefault(id(parameter), key)
                continue
            first = firsts.get(id(parameter), key.replace(".modules_to_save.", "."))
            if key not in self.tensors or first not in expected:
                continue
            if first in self.tensors and not torch.equal(self.tensors[first], self.tensors[key]):
                raise ManifoldLoraError("tensors of adapter", f"another {key}", f"the same as {first}")
            found[key] = expected[first]
        return found

    def _check_keys(self, expected: Mapping[str, Tensor]) -> None:
        missing, extra = (
            sorted(set(expected) - set(self.tensors)),
            sorted(set(self.tensors) - set(expected)),
        )
        if missing or extra:
            word, keys = ("missing", missing) if missing else ("unknown", extra)
            hint = f"{len(keys)} {word}, the first {keys[0]}"
            raise ManifoldLoraError("tensors of adapter", str(self.folder), "exactly the adapter's", hint)
        for key, tensor in self.tensors.items():
            if tensor.shape != expected[key].shape or _kind(tensor) != _kind(expected[key]):
                got, kind = f"{key} {tuple(tensor.shape)} {tensor.dtype}", _kind(expected[key])
                shape = f"{tuple(expected[key].shape)} {kind}, as its config and the model make it"
                raise ManifoldLoraError("shape of adapter tensor", got, shape)

    def _check_integers(self, skeleton: nn.Module, expected: Mapping[str, Tensor]) -> None:
        """Refuse an index outside its weight: sparse tensors would read memory that is not theirs."""
        layers = dict(skeleton.named_modules())
        for name in filter(lambda name: _is_integer(self.tensors[name]), self.tensors):
            tensor, layer = self.tensors[name], layers.get(name.rpartition(".")[0])
            size = expected.get(name.replace("_indices", "_size"), expected[name])
            if isinstance(layer, BaseTunerLayer):
                shape = tuple(layer.get_base_layer().get_parameter("weight").shape)
                size = torch.tensor(shape if tensor.dim() > 1 else [math.prod(shape)])
            elif size is expected[name]:
                tensor, size = (tensor != size).to(torch.int8), torch.tensor([1])
            if ((tensor < 0) | (tensor >= size.view(-1, *[1] * (tensor.dim() - 1)))).any():
                raise ManifoldLoraError("integers of adapter", name, "indices inside the model's weights")

    def _without_manifest(self, require: bool) -> None:
        if require:
            hint = "save it by save_adapter, or load it without require_manifest"
            raise ManifoldLoraError("adapter folder", str(self.folder), f"a folder with {MANIFEST}", hint)
        warnings.warn(
            f"{self.folder} has no {MANIFEST}: its hashes, base model and versions were not checked "
            "(save_adapter writes one)",
            stacklevel=4,
        )


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _kind(tensor: Tensor) -> str:
    """What may stand for what: any precision of a real number, but no other integer or complex type."""
    return "of real numbers" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")


def _uninitialised(config: PeftConfig) -> PeftConfig:
    """A copy that starts from no weight of the base: PiSSA and its kind would change that."""
    config = copy.deepcopy(config)
    if isinstance(config, LoraConfig) and config.init_lora_weights not in (True, False):
        config.init_lora_weights = False
    return config
