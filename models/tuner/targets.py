"""Checks that an adapter lands where its config says, before the model is touched."""

import re
from collections.abc import Collection, Iterable
from copy import copy
from difflib import get_close_matches
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import (
    BaseTunerLayer,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from peft.utils.other import get_pattern_key
from torch import nn

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.tuner.layer_support import (
    SUPPORTED,
    bypass_reason,
    has_fused_experts,
    shard_reason,
    unsupported_reason,
)
from manifold_lora.models.tuner.names import own_modules
from manifold_lora.models.vocabulary import added_tokens, embeddings
from manifold_lora.numbers import is_whole


def check_default_targets(
    model: nn.Module, config: LoraConfig, defaults: Collection[str], model_type: str | None
) -> None:
    """Raise UnknownNameError if ``target_modules`` is unset and peft has no default for this model type."""
    if config.target_modules is None and model_type not in defaults:
        raise UnknownNameError("target_modules", None, _linear_names(dict(own_modules(model))))


def check_free(model: nn.Module, adapter_name: str) -> None:
    """Raise ManifoldLoraError where an adapter of this name, or a whole PeftModel, is there already."""
    if isinstance(model, PeftModel):
        hint = "model.add_adapter puts a second one on it"
        raise ManifoldLoraError("model to adapt", type(model).__name__, "a model without adapters", hint)
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and adapter_name in module._all_available_adapter_names():
            hint = f"{name} holds one; delete it, or take another name"
            raise ManifoldLoraError("adapter name", adapter_name, "a name that is not in use", hint)


def check_targets(model: nn.Module, config: Any, own: type[BaseTunerLayer] | None = None) -> list[str]:
    """The names of the modules that ``config`` adapts in ``model``; ``target_modules`` must be set.

    Args:
        model: what is going to be adapted.
        config: peft's LoraConfig, or another method's with the same ways to name modules.
        own: the method's own layer class, where it is not LoRA's: it may hold an earlier adapter.

    Raises UnknownNameError for a target, ``exclude_modules``, ``modules_to_save`` or pattern that names
    nothing (with the nearest name), and ManifoldLoraError for zero adapted layers or a module that cannot
    carry the adapter.
    """
    modules = dict(own_modules(model))
    linear = _linear_names(modules)
    if str(config.target_modules).lower() == INCLUDE_LINEAR_LAYERS_SHORTHAND:
        _check_no_experts(modules, config)
        expanded: Any = _maybe_include_all_linear_layers(copy(config), model)
        config = expanded
    _check_known("target_modules", config.target_modules, modules, linear)
    _check_known("exclude_modules", config.exclude_modules, modules, linear)
    _check_known("modules_to_save", config.modules_to_save, modules, [_leaf(name) for name in modules])
    matched = [name for name in modules if check_target_module_exists(config, name)]
    if not matched:
        raise UnknownNameError(
            "target_modules", _shown(config.target_modules), linear, _nothing(config, linear)
        )
    for name in matched:
        module = modules[name]
        if own is not None and isinstance(module, own):
            module = module.get_base_layer()
        reason = unsupported_reason(module) or shard_reason(model, name) or bypass_reason(model, name)
        if reason:
            others = [other for other in linear if other != _leaf(name)]
            raise ManifoldLoraError("target module", name, ", ".join(others) or SUPPORTED, reason)
    _check_excluded(config.exclude_modules, modules)
    _check_layers(config, matched)
    _check_dropped(config, modules)
    check_new_tokens(model, [config])
    _check_tokens(model, getattr(config, "trainable_token_indices", None), modules)
    for where in ("rank_pattern", "alpha_pattern", "curvature_pattern", "manifold_pattern"):
        _check_pattern(where, getattr(config, where, None) or {}, matched, not config.inference_mode)
    return matched


def _check_excluded(pattern: str | Iterable[str] | None, modules: dict[str, nn.Module]) -> None:
    if isinstance(pattern, str) and not any(re.fullmatch(pattern, name) for name in modules):
        hint = "it has to match the whole name of a module"
        raise ManifoldLoraError("exclude_modules", pattern, "a pattern that matches a module", hint)


def _check_layers(config: Any, matched: list[str]) -> None:
    """Refuse an index of ``layers_to_transform`` at which no layer is adapted."""
    wanted = config.layers_to_transform
    if wanted is None:
        return
    if isinstance(config.target_modules, str):
        hint = "put the layers into the pattern"
        raise ManifoldLoraError(
            "layers_to_transform", wanted, "unset where target_modules is a pattern", hint
        )
    indices = list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
    if not indices or any(type(index) is not int for index in indices):
        raise ManifoldLoraError("layers_to_transform", wanted, "whole numbers, one or more; None for all")
    patterns = config.layers_pattern if isinstance(config.layers_pattern, list) else []
    for index, pattern in [*((index, None) for index in indices), *((None, one) for one in patterns)]:
        alone = copy(config)
        alone.layers_to_transform = indices if index is None else [index]
        alone.layers_pattern = config.layers_pattern if pattern is None else [pattern]
        if any(check_target_module_exists(alone, name) for name in matched):
            continue
        if pattern is not None:
            raise ManifoldLoraError("layers_pattern", pattern, "lists that hold a layer to transform")
        hint = "no layer has this index"
        raise ManifoldLoraError("layers_to_transform", index, "indices of layers with a target", hint)


def _check_dropped(config: Any, modules: dict[str, nn.Module]) -> None:
    """Refuse a target by name that ``modules_to_save`` trains whole: peft would drop its adapter."""
    if not config.modules_to_save or isinstance(config.target_modules, str):
        return
    alone = copy(config)
    alone.modules_to_save = None
    for name in modules:
        if check_target_module_exists(alone, name) and not check_target_module_exists(config, name):
            hint = "it is in modules_to_save, trained whole; name it in one of the two"
            raise ManifoldLoraError("target_modules", name, "modules that modules_to_save leaves out", hint)


def _check_tokens(model: nn.Module, wanted: Any, modules: dict[str, nn.Module]) -> None:
    """Refuse ``trainable_token_indices`` of tokens or of modules that the model has not."""
    rows = max(map(len, embeddings(model).values()), default=0)
    named = wanted if isinstance(wanted, dict) else {"": wanted or []}
    _check_known("trainable_token_indices", filter(None, named), modules, [_leaf(name) for name in modules])
    for token in (token for tokens in named.values() for token in tokens):
        if not is_whole(token, least=0) or token >= rows:
            raise ManifoldLoraError("trainable_token_indices", token, f"tokens from 0 to {rows - 1}")


def check_new_tokens(model: nn.Module, configs: Iterable[Any]) -> None:
    """Raise ManifoldLoraError for a head as target where the vocabulary was resized since the base was saved.

    peft saves a part of the embeddings then: of an untied base it leaves out the new input rows, and where
    ``exclude_modules`` or ``layers_to_transform`` leaves the target out again, it leaves out all.

    Args:
        model: the base model.
        configs: those of its adapters.
    """
    kept = embeddings(model) if added_tokens(model) else {}
    heads = [name for name, module in own_modules(model) if any(id(p) in kept for p in module.parameters())]
    for config in configs:
        named = copy(config)
        named.exclude_modules = named.layers_to_transform = None
        for name in heads if getattr(config, "target_modules", None) else ():
            if check_target_module_exists(named, name):
                hint = f"the base on disk has {added_tokens(model)} tokens fewer; save the resized base first"
                allowed = "a head whose vocabulary was not resized"
                raise ManifoldLoraError("target module", name, allowed, hint)


def _check_no_experts(modules: dict[str, nn.Module], config: LoraConfig) -> None:
    """Refuse ``all-linear`` where peft would pass over fused experts in silence."""
    for name, module in modules.items():
        if has_fused_experts(module):
            hint = f"{name} holds fused mixture-of-experts weights, which cannot be adapted"
            raise ManifoldLoraError("target_modules", config.target_modules, "names of linear layers", hint)


def _linear_names(modules: dict[str, nn.Module]) -> list[str]:
    return sorted({_leaf(name) for name, module in modules.items() if unsupported_reason(module) is None})


def _check_known(
    where: str, wanted: str | Iterable[str] | None, modules: dict[str, nn.Module], allowed: list[str]
) -> None:
    if wanted is None or isinstance(wanted, str):
        return
    for name in sorted(wanted):
        if not any(key == name or key.endswith(f".{name}") for key in modules):
            raise UnknownNameError(where, name, sorted(set(allowed)), _fused_hint(name, modules))


def _fused_hint(name: str, modules: dict[str, nn.Module]) -> str:
    """The reason, if the name belongs to a fused 3-dimensional parameter rather than to a module."""
    for key, module in modules.items():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if parameter_name == name and parameter.dim() == 3:
                return f"{key}.{name} is a fused mixture-of-experts parameter, not a linear layer"
    return ""


def _check_pattern(where: str, pattern: dict[str, object], matched: list[str], counts: bool) -> None:
    """Refuse an entry that matches no target; where it ``counts``, also one that others always precede."""
    first = {get_pattern_key(list(pattern), name) for name in matched}
    for key in pattern:
        if not any(re.match(rf"(.*\.)?({key})$", name) for name in matched):
            raise UnknownNameError(where, key, sorted({_leaf(name) for name in matched}))
        if counts and key not in first:
            hint = "the first entry that matches counts: put this one before"
            raise ManifoldLoraError(where, key, "an entry that some layer has", hint)


def _nothing(config: LoraConfig, linear: list[str]) -> str:
    """The hint for zero adapted layers: the nearest name, else which other option narrowed the choice."""
    target = config.target_modules
    near = (
        get_close_matches(target.split(".")[-1], linear, n=1, cutoff=0.5) if isinstance(target, str) else []
    )
    if near:
        return f"no layer would be adapted; did you mean {near[0]!r}?"
    narrowed = [n for n in ("exclude_modules", "layers_to_transform", "layers_pattern") if getattr(config, n)]
    return "no layer would be adapted" + (f"; see {', '.join(narrowed)}" if narrowed else "")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(target: str | Iterable[str] | None) -> str:
    return target if isinstance(target, str) else ", ".join(sorted(target or []))
