"""Which base model an adapter was trained on: its configuration, and a few of its numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft.tuners.adaption_prompt.layer import AdaptedAttention, AdaptedAttentionGPT
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError

_TENSORS, _NUMBERS = 16, 4
# Half precision rounds by 2^-9; another model differs by far more in one of the numbers at least.
_ROUNDING = 2.0**-8
# Wrappers that keep the attention they adapt under another name.
_PROMPTED = (AdaptedAttention, AdaptedAttentionGPT)
_VOLATILE = {
    "_commit_hash",
    "_name_or_path",
    "attn_implementation",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def describe_base(model: nn.Module) -> dict[str, Any]:
    """Configuration, name, hub commit and sampled weights of a base model, as JSON data.

    The weights are sampled rather than hashed, so that a base of gigabytes is described at once, and
    recognised again in another precision.
    """
    weights = dict(_weights(model))
    names = sorted(weights)
    chosen = names if len(names) <= _TENSORS else [names[i * len(names) // _TENSORS] for i in range(_TENSORS)]
    samples = {name: _sample(weights[name]) for name in chosen}
    for name, numbers in samples.items():
        if not all(map(math.isfinite, numbers)):
            raise ManifoldLoraError("weights of the base model", f"NaN or Inf in {name}", "finite numbers")
    config = getattr(model, "config", None)
    return {
        "name": getattr(config, "_name_or_path", None),
        "commit": getattr(config, "_commit_hash", None),
        "config": _facts(config),
        "weights": samples,
    }


def check_base(described: Mapping[str, Any], model: nn.Module) -> None:
    """Raise ManifoldLoraError unless ``model`` is the base that ``describe_base`` saw, in any precision."""
    name = _named(described)
    check_base_facts(described, getattr(model, "config", None))
    weights, whole = dict(_weights(model)), dict(model.named_parameters())
    check_base_weights(described, weights)
    for key in described["weights"]:
        if key not in weights and not any(_plain_name(parameter) == key for parameter in whole):
            raise _other(f"no weight {key}", name)


def check_base_facts(described: Mapping[str, Any], config: Any) -> None:
    """``check_base`` of a transformers config alone."""
    found = _facts(config)
    for key, wanted in described["config"].items():
        if key in found and found[key] != wanted:
            raise _other(f"{key} {found[key]!r}", f"{_named(described)} with {key} {wanted!r}")


def check_base_weights(described: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """``check_base`` of those weights that are there, by the names they have without any adapter."""
    for key in sorted(described["weights"].keys() & weights.keys()):
        _compare(key, described["weights"][key], _sample(weights[key]), _named(described))


def _named(described: Mapping[str, Any]) -> str:
    return described.get("name") or "the one the adapter was trained on"


def _compare(key: str, wanted: list[float], found: list[float], name: str) -> None:
    same = len(wanted) == len(found) and all(
        abs(one - other) <= _ROUNDING * abs(one) + 1e-7 for one, other in zip(wanted, found, strict=True)
    )
    if not same:
        raise _other(f"other numbers in {key}", name)


def _other(got: str, allowed: str) -> ManifoldLoraError:
    hint = "an adapter means nothing on another base; check_base=False loads it all the same"
    return ManifoldLoraError("base model of adapter", got, allowed, hint)


def _facts(config: Any) -> dict[str, Any]:
    data = config.to_dict() if hasattr(config, "to_dict") else {}
    return {
        key: value
        for key, value in sorted(data.items())
        if isinstance(value, bool | int | float | str) and key not in _VOLATILE
    }


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The matrices of the base by their names without any adapter, as far as their numbers can be read."""
    adapters = {
        id(parameter)
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
        for part in layer.adapter_layer_names
        for parameter in getattr(layer, part).parameters()
    }
    prompted = [(f"{n}.", m) for n, m in model.named_modules() if isinstance(m, _PROMPTED)]
    adapters.update(id(p) for _, module in prompted for p in module.parameters(recurse=False))
    for name, parameter in model.named_parameters():
        readable = type(parameter.data) is Tensor and not parameter.is_meta and parameter.element_size() > 1
        base = id(parameter) not in adapters and ".modules_to_save." not in name
        if base and readable and parameter.dim() > 1 and parameter.is_floating_point():
            for inside, _ in prompted:
                name = name.replace(f"{inside}model.", inside, 1)
            yield _plain_name(name), parameter.data


def _plain_name(name: str) -> str:
    for wrapper in (".token_adapter.base_layer.", ".base_layer.", ".original_module."):
        name = name.replace(wrapper, ".")
    return name


def _sample(weight: Tensor) -> list[float]:
    places = [weight.numel() * (2 * place + 1) // (2 * _NUMBERS) for place in range(_NUMBERS)]
    numbers = [
        weight[tuple(int(i) for i in torch.unravel_index(torch.tensor(p), weight.shape))] for p in places
    ]
    return [float(number) for number in numbers]
