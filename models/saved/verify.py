"""An adapter's files, verified before a model is touched: what peft would load in silence is refused."""

import copy
import warnings
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from peft import AdaLoraConfig, PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.base_identity import check_base
from manifold_lora.models.saved.config_file import check_config
from manifold_lora.models.saved.folders import check_adapter_folder
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS, read_manifest, tensor_facts
from manifold_lora.models.saved.weights_file import check_finite, check_header, read_json, read_tensors
from manifold_lora.models.tuner.incoming import check_exponents


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
        self._manifest = read_manifest(folder)
        if self._manifest is None:
            self._without_manifest(require_manifest)
        check_config(read_json(folder / CONFIG, "adapter config"))
        self._tensors = read_tensors(folder / WEIGHTS)
        check_finite("tensors of adapter", self._tensors)
        if self._manifest is not None and self._manifest["tensors"] != tensor_facts(self._tensors):
            raise ManifoldLoraError(
                "tensors of adapter", str(folder / WEIGHTS), f"those that {MANIFEST} lists"
            )

    def check_base(self, model: nn.Module) -> None:
        """Raise ManifoldLoraError if the manifest names another base model than this one."""
        if self._manifest is not None:
            check_base(self._manifest["base"], model)

    def check_fit(self, model: nn.Module, config: PeftConfig) -> None:
        """Raise ManifoldLoraError unless the tensors are those the model takes, by name, shape and bounds.

        ``model`` is left as it is: the adapter is put on a copy of its modules that shares all weights.
        """
        shared: dict[int, Any] = {id(t): t for t in chain(model.parameters(), model.buffers())}
        # Without storage where that can be: AdaLoRA looks at values to tell which ranks were kept.
        empty = not isinstance(config, AdaLoraConfig)
        skeleton = PeftModel(copy.deepcopy(model, shared), copy.deepcopy(config), low_cpu_mem_usage=empty)
        expected = get_peft_model_state_dict(skeleton, save_embedding_layers=False)
        self._check_keys(expected, dict(skeleton.named_parameters()))
        tuner: Any = type(skeleton.base_model)
        check_exponents(
            skeleton, self._tensors, lambda name: tuner._remove_adapter_name_from_key(name, "default")
        )

    def _check_keys(self, expected: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
        # peft saves embeddings too where the vocabulary was enlarged.
        embeddings = {
            key: tensor
            for key, tensor in whole.items()
            if key.removesuffix(".weight").rpartition(".")[2] in EMBEDDING_LAYER_NAMES
        }
        missing = sorted(set(expected) - set(self._tensors))
        extra = sorted(set(self._tensors) - set(expected) - set(embeddings))
        if missing or extra:
            word, keys = ("missing", missing) if missing else ("unknown", extra)
            hint = f"{len(keys)} {word}, the first {keys[0]}"
            raise ManifoldLoraError("tensors of adapter", str(self.folder), "exactly the adapter's", hint)
        wanted = {**embeddings, **expected}
        for key, tensor in self._tensors.items():
            if tensor.shape != wanted[key].shape or not tensor.is_floating_point():
                got = f"{key} {tuple(tensor.shape)} {tensor.dtype}"
                shape = f"{tuple(wanted[key].shape)} of numbers, as its config and the model make it"
                raise ManifoldLoraError("shape of adapter tensor", got, shape)

    def _without_manifest(self, require: bool) -> None:
        if require:
            hint = "save it by save_adapter, or load it without require_manifest"
            raise ManifoldLoraError("adapter folder", str(self.folder), f"a folder with {MANIFEST}", hint)
        warnings.warn(
            f"{self.folder} has no {MANIFEST}: its hashes, base model and versions were not checked "
            "(save_adapter writes one)",
            stacklevel=4,
        )
