"""Whether a curved adapter fits the model that vLLM serves: its layers, their sizes and the base itself."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME as INDEX
from transformers.utils import SAFE_WEIGHTS_NAME as SINGLE
from transformers.utils.hub import cached_file

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.saved.base_identity import check_base_facts, check_base_weights
from manifold_lora.models.saved.verify import AdapterFiles
from manifold_lora.models.saved.weights_file import read_json
from manifold_lora.models.serving.adapter import ServedAdapter
from manifold_lora.models.serving.gain import ServedGain
from manifold_lora.models.serving.punica import CurvedPunica
from manifold_lora.models.tuner.names import weight_key

LayerGains = dict[str, list[ServedGain | None]]


def layer_gains(adapter: ServedAdapter, manager: Any) -> LayerGains:
    """vLLM's name of each layer with LoRA -> the gain of each of its slices, None where it has no adapter.

    Args:
        adapter: what is going to be served.
        manager: vLLM's ``LoRAModelManager``.

    Raises ManifoldLoraError for a module that the model has not, that does not carry a curved adapter there,
    or whose sizes are others.
    """
    served = _named(adapter, manager)
    found: LayerGains = {}
    for name, layer in manager.modules.items():
        parts = manager.packed_modules.get(name) or [name]
        own = [served.pop(part, None) for part in parts]
        if not any(own):
            continue
        punica = layer.__dict__.get("punica_wrapper")
        if not isinstance(punica, CurvedPunica):
            raise ManifoldLoraError("served module", name, "linear layers", _why_not(layer))
        sizes = _sizes(layer, len(parts))
        for module, size in zip(own, sizes, strict=True):
            if module is not None and adapter.shape(module) != size:
                raise ManifoldLoraError(f"sizes (n, m) of {module}", adapter.shape(module), f"{size}")
        gains = [None if module is None else adapter.gains[module] for module in own]
        # One adapted module over several slices: its B is one matrix, and so is its gain.
        found[name] = gains * (layer.n_slices if len(gains) == 1 else 1)
    if served:
        raise UnknownNameError("served module", next(iter(served.values())), _leaves(manager.modules))
    return found


def check_served_base(files: AdapterFiles, config: Any) -> None:
    """Raise ManifoldLoraError if the adapter's manifest describes another base than the one of ``config``.

    Its numbers are compared where the model is a folder or in the cache, by the names of its files.
    """
    if files.manifest is None:
        return
    described = files.manifest["base"]
    check_base_facts(described, config)
    check_base_weights(described, _weights(getattr(config, "_name_or_path", ""), described["weights"]))


def _named(adapter: ServedAdapter, manager: Any) -> dict[str, str]:
    """vLLM's name of a module -> its name in the adapter."""
    from vllm.lora.utils import parse_fine_tuned_lora_name

    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    renames = None if mapper is None else mapper.get_rename_mapper()
    keys = {weight_key(name, "A"): name for name in adapter.gains}
    return {parse_fine_tuned_lora_name(key, renames)[0]: name for key, name in keys.items()}


def _why_not(layer: Any) -> str:
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA

    if isinstance(layer, BaseLinearLayerWithLoRA):
        return "curved adapters are served without torch.compile: start the server with --enforce-eager"
    return f"{type(layer).__name__} takes plain LoRA only"


def _sizes(layer: Any, parts: int) -> list[tuple[int, int]]:
    """(n, m) of each adapted module that a layer is made of, before it is split among workers."""
    base = layer.base_layer
    if parts == 1:
        return [(base.input_size, base.output_size)]
    outputs = list(base.output_sizes)
    if hasattr(base, "total_num_kv_heads"):
        # Workers beyond the number of heads of K and V hold copies of them, which count as outputs.
        outputs[1:] = [base.total_num_kv_heads * base.head_size] * (len(outputs) - 1)
    if len(outputs) != parts:
        hint = f"its {len(outputs)} slices belong to {parts} modules of the checkpoint"
        raise ManifoldLoraError("served module", getattr(base, "prefix", "?"), "one module a slice", hint)
    return [(base.input_size, size) for size in outputs]


def _weights(name: str, keys: Iterable[str]) -> Mapping[str, Tensor]:
    """Those of the base's tensors that lie in files on this machine."""
    found: dict[str, Tensor] = {}
    with ExitStack() as opened:
        files = {key: path for key in keys if (path := _file_of(name, key)) is not None}
        readers = {path: opened.enter_context(safe_open(path, "pt")) for path in set(files.values())}
        for key, path in files.items():
            if key in readers[path].keys():  # noqa: SIM118 (no mapping)
                found[key] = readers[path].get_tensor(key)
    return found


def _file_of(name: str, key: str) -> Path | None:
    index = _local(name, INDEX)
    if index is None:
        return _local(name, SINGLE)
    table: Any = read_json(index, "index of the base model").get("weight_map")
    return _local(name, table[key]) if key in table else None


def _local(name: str, filename: str) -> Path | None:
    try:
        path = cached_file(name, filename, local_files_only=True, _raise_exceptions_for_missing_entries=False)
    except OSError:
        return None
    return None if path is None else Path(path)


def _leaves(modules: Mapping[str, Any]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in modules})
