"""vLLM's entry point: four of its methods, wrapped so that folders of curved adapters are served.

The methods are internals. Each is looked at before it is touched, and a vLLM of another version or with other
methods is left as it is: there a curved adapter is refused, and plain ones are served as ever.
"""

import inspect
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError

# Those that tests/serving was run with.
VERSIONS = ("0.32",)
_PARAMETERS = {
    "_load_adapter": ("self", "lora_request"),
    "_apply_adapters": ("self", "lora_requests"),
    "activate_adapter": ("self", "lora_id"),
    "set_mapping": ("self", "punica_wrapper"),
}
_DONE = "manifold_lora_serves"


def register() -> None:
    """Have this process of vLLM serve curved adapters; may be called again."""
    import vllm
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager, WorkerLoRAManager

    if getattr(WorkerLoRAManager, _DONE, False):
        return
    owners: dict[str, Any] = {
        "_load_adapter": WorkerLoRAManager,
        "_apply_adapters": LRUCacheWorkerLoRAManager,
        "activate_adapter": LoRAModelManager,
        "set_mapping": BaseLinearLayerWithLoRA,
    }
    reason = _unknown(vllm.__version__, owners)
    wrappers: dict[str, Callable[[Any], Any]] = {
        "_load_adapter": _loading,
        "_apply_adapters": _in_step,
        "activate_adapter": _activating,
        "set_mapping": _mapping,
    }
    if reason:
        warnings.warn(f"manifold-lora: {reason}; curved adapters are not served", stacklevel=2)
        wrappers = {"_load_adapter": lambda method: _refusing(method, reason)}
    for name, wrapper in wrappers.items():
        if hasattr(owners[name], name):
            setattr(owners[name], name, wrapper(getattr(owners[name], name)))
    setattr(WorkerLoRAManager, _DONE, True)


def is_known(version: str) -> bool:
    """Is this version of vLLM one that curved adapters are served by?"""
    return ".".join(version.split("+")[0].split(".")[:2]) in VERSIONS


def _unknown(version: str, owners: dict[str, Any]) -> str:
    """Why this vLLM cannot be used; "" where it can."""
    if not is_known(version):
        return f"vLLM {version} is not known, only {', '.join(VERSIONS)}"
    for name, owner in owners.items():
        method = getattr(owner, name, None)
        found = () if method is None else tuple(inspect.signature(method).parameters)
        if found != _PARAMETERS[name]:
            return f"{owner.__name__}.{name} of vLLM {version} takes {found}, not {_PARAMETERS[name]}"
    return ""


def _refusing(method: Any, reason: str) -> Any:
    """A loader that refuses curved adapters by the reason, whatever it takes."""

    @wraps(method)
    def load(self: Any, *arguments: Any, **others: Any) -> Any:
        from manifold_lora.models.serving.adapter import is_curved

        for given in (*arguments, *others.values()):
            path = getattr(given, "lora_path", None)
            if isinstance(path, str) and is_curved(Path(path).expanduser()):
                versions = ", ".join(f"vLLM {version}" for version in VERSIONS)
                raise ManifoldLoraError("server of a curved adapter", path, versions, reason)
        return method(self, *arguments, **others)

    return load


def _loading(method: Any) -> Any:
    """``_load_adapter``: our checks first; then vLLM reads A and B, and the gains are put beside them."""

    @wraps(method)
    def load(self: Any, lora_request: Any) -> Any:
        import msgspec
        from vllm.lora.utils import get_adapter_absolute_path

        from manifold_lora.models.saved.manifest import MANIFEST
        from manifold_lora.models.saved.verify import AdapterFiles
        from manifold_lora.models.serving.adapter import is_curved
        from manifold_lora.models.serving.verified import Verified

        folder, key = Path(get_adapter_absolute_path(lora_request.lora_path)), lora_request.lora_int_id
        kept = vars(self).setdefault("manifold_lora_verified", Verified())
        in_step = vars(self).get("manifold_lora_in_step", False)
        if is_curved(folder) or (in_step and kept.has(key, folder)):
            one = kept.get(key, folder, self, lora_request.load_inplace, in_step)
            lora = method(self, msgspec.structs.replace(lora_request, lora_path=str(one.plain)))
            lora.manifold_lora_gains = one.gains
            return lora
        if (folder / MANIFEST).exists():
            AdapterFiles(folder)
        return method(self, lora_request)

    return load


def _in_step(method: Any) -> Any:
    """``_apply_adapters``: what it loads, requests are waiting for."""

    @wraps(method)
    def apply(self: Any, lora_requests: Any) -> Any:
        self.manifold_lora_in_step = True
        try:
            return method(self, lora_requests)
        finally:
            self.manifold_lora_in_step = False

    return apply


def _activating(method: Any) -> Any:
    """``activate_adapter``: the adapter's gains go into the slot that its A and B went to."""

    @wraps(method)
    def activate(self: Any, lora_id: int) -> Any:
        from manifold_lora.models.serving.punica import CurvedPunica

        moved = method(self, lora_id)
        if moved:
            slot = self.lora_index_to_id.index(lora_id)
            gains = getattr(self._registered_adapters[lora_id], "manifold_lora_gains", {})
            for name, layer in self.modules.items():
                punica = layer.__dict__.get("punica_wrapper")
                if isinstance(punica, CurvedPunica):
                    punica.gains.put(slot, gains.get(name, [None] * layer.n_slices))
        return moved

    return activate


def _mapping(method: Any) -> Any:
    """``set_mapping``: a linear layer sees the kernels through ``CurvedPunica``.

    Not under torch.compile, which would trace what the tables hold at its first run.
    """

    @wraps(method)
    def set_mapping(self: Any, punica_wrapper: Any) -> None:
        from vllm.config import get_current_vllm_config_or_none
        from vllm.lora.layers import ClassificationHeadWithLoRA

        from manifold_lora.models.serving.punica import CurvedPunica

        config = get_current_vllm_config_or_none()
        eager = config is not None and config.model_config.enforce_eager
        if eager and not isinstance(self, ClassificationHeadWithLoRA):
            punica_wrapper = CurvedPunica(punica_wrapper, self)
        method(self, punica_wrapper)

    return set_mapping
