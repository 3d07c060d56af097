"""Tensors that peft is about to load into a manifold adapter: whole, finite and bounded, or refused."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.token_scale import TokenCurvature
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.tuner.names import WRAPPER
from manifold_lora.models.vocabulary import check_embeddings, embeddings

# Adapters saved before calibration existed have none: their scale starts at sqrt(n).
_OPTIONAL = ("norm_scaling.median", "token_scale.curvature.median")
# Wrappers of peft that hold an adapter's own copy of a module or of rows of an embedding.
_TRAINED_WHOLE = ("modules_to_save", "token_adapter")


def check_incoming(model: nn.Module, adapter_name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise ManifoldLoraError, none of them copied, unless ``tensors`` are all of the adapter's and bounded.

    peft itself passes over missing and unknown tensors with a warning at most, whatever path it loads by.

    Args:
        model: the adapted model, wrapped by peft or not.
        adapter_name: the adapter to be loaded.
        tensors: by their names in the model, the adapter's among them.
    """
    _check_base(model, {name.removeprefix(WRAPPER): t for name, t in tensors.items() if ".lora_" not in name})
    given = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items() if ".lora_" in name}
    names = (name.removeprefix(WRAPPER) for name in model.state_dict())
    own = re.compile(rf"\.lora_\w+\.{re.escape(adapter_name)}(\.|$)")
    expected = {name for name in names if own.search(name)}
    absent = {name for name in expected - set(given) if not name.endswith(_OPTIONAL)}
    missing, unknown = sorted(absent), sorted(set(given) - expected)
    if missing or unknown:
        word, odd = ("missing", missing) if missing else ("unknown", unknown)
        hint = f"{len(odd)} {word}, the first {odd[0]}"
        raise ManifoldLoraError("tensors of adapter", adapter_name, "exactly the adapter's", hint)
    for name, tensor in given.items():
        if not tensor.is_meta and not torch.isfinite(tensor).all():
            raise ManifoldLoraError("tensors of adapter", f"NaN or Inf in {name}", "finite numbers")
        if name.endswith(_OPTIONAL) and not tensor.is_meta and (tensor < 0).any():
            raise ManifoldLoraError(
                "tensors of adapter", f"{float(tensor.min()):g} in {name}", "0 or a median"
            )
    check_exponents(model, given, lambda name: name.removeprefix(WRAPPER))
    check_size(given)


def _check_base(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that would overwrite the base's, all but the embeddings of tokens that were added."""
    own = {n.removeprefix(WRAPPER): p for n, p in model.named_parameters(remove_duplicate=False)}
    kept, brought = embeddings(model), {}
    for name, tensor in tensors.items():
        if name not in own or any(f".{part}." in name for part in _TRAINED_WHOLE):
            continue
        if id(own[name]) not in kept:
            raise ManifoldLoraError(
                "tensors of adapter", name, "the adapter's alone", "it is one of the base's"
            )
        brought[name] = tensor
    check_embeddings(model, brought, own)


# exp(64) times the stated curvature or scale is 10^27 times: a damaged file, far inside float64's range.
MAX_EXPONENT = 64.0


def check_exponents(
    model: nn.Module, tensors: Mapping[str, Tensor], named: Callable[[str], str] = str
) -> None:
    """Raise ManifoldLoraError naming the first of ``tensors`` whose exponential no geometry can use.

    Args:
        model: the adapted model.
        tensors: what is going to be loaded into it.
        named: from a parameter's name in the model to its name among the tensors.
    """
    for name, module in model.named_modules(remove_duplicate=False):
        for leaf in _exponents(module):
            key = named(f"{name}.{leaf}")
            tensor = tensors.get(key)
            if tensor is not None and not tensor.is_meta and tensor.abs().max() > MAX_EXPONENT:
                got, allowed = f"{float(tensor.abs().max()):g} in {key}", f"at most {MAX_EXPONENT:g}"
                raise ManifoldLoraError("exponent in adapter", got, allowed, "a damaged file")


# The square of a larger number is no float32.
_LARGEST = 1e18


def check_size(tensors: Mapping[str, Tensor]) -> None:
    """Refuse numbers that become infinite in float32, or whose products do: the model would answer NaN."""
    for name, tensor in tensors.items():
        real = tensor.is_floating_point() or tensor.is_complex()
        if real and not tensor.is_meta and tensor.numel() and (size := float(tensor.abs().max())) > _LARGEST:
            allowed = f"numbers of at most {_LARGEST:g}"
            raise ManifoldLoraError("tensors of adapter", f"{size:g} in {name}", allowed, "a damaged file")


def _exponents(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, Curvature):
        return ("raw",) if module.mode == "learned" else ()
    if isinstance(module, TokenCurvature):
        return ("gate", "log_reference")
    return ("log_scale",) if isinstance(module, NormScaling) else ()
