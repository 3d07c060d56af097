"""adapter_config.json of unknown origin: checked as plain data, before peft makes an object of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from peft import AdaLoraConfig, LoraConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.tuner.patterns import from_file
from manifold_lora.numbers import is_number, is_whole

MAX_RANK, MAX_SCALING = 65_536, 1e4
# Sizes by their names: what a method allocates before it looks at the weights file.
_SIZE = re.compile(r"(^|_)(r|rank|size|dim|num|n)(_|$)")
# What would make peft read other files than the adapter's.
_ELSEWHERE = ("adapters", "prompt_tuning_init_state_dict_path", "tokenizer_kwargs", "megatron_config")


def check_config(raw: Mapping[str, Any]) -> None:
    """Raise ManifoldLoraError for an unknown method or key (naming the nearest), numbers out of bounds,
    or another value where true or false belongs.

    Ranks are integers in [1, 65536] and abs(alpha) is at most 10^4 times the rank: an update that much larger
    than B A x is a damaged file, not an adapter.
    """
    methods = {member.value: config for member, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    method = raw.get("peft_type")
    if not isinstance(method, str) or method not in methods:
        raise UnknownNameError("peft_type of adapter config", method, sorted(methods))
    known = {field.name: field.type for field in fields(methods[method])}
    for key in raw:
        if key not in known:
            raise UnknownNameError("key of adapter config", key, known)
        if known[key] in (bool, "bool") and not isinstance(raw[key], bool | None):
            raise ManifoldLoraError(f"{key} of adapter config", raw[key], "true or false")
    for key in _ELSEWHERE:
        if raw.get(key):
            hint = "it names files or options beside the adapter's own"
            raise ManifoldLoraError(f"{key} of adapter config", raw[key], "null", hint)
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(raw.get(key), str | None) or "\0" in (raw.get(key) or ""):
            raise ManifoldLoraError(f"{key} of adapter config", raw[key], "a name or null")
    if ".." in (raw.get("revision") or ""):
        raise ManifoldLoraError("revision of adapter config", raw["revision"], "a branch, tag or commit")
    if issubclass(methods[method], AdaLoraConfig):
        # There rank_pattern says which ranks were kept.
        _check_numbers({**raw, "r": raw.get("init_r"), "rank_pattern": None})
    elif issubclass(methods[method], LoraConfig):
        _check_numbers(raw)


def check_sizes(raw: Mapping[str, Any], elements: int) -> None:
    """Raise ManifoldLoraError for a size that the weights file, of so many numbers, cannot have.

    Sizes up to 65536 pass in any case: those of a prompt's encoder, say, are in no file.
    """
    bound = max(MAX_RANK, elements)
    for key, value in raw.items():
        if isinstance(value, int) and _SIZE.search(key) and not 0 <= value <= bound:
            raise ManifoldLoraError(f"{key} of adapter config", value, f"an integer from 0 to {bound}")


def _check_numbers(raw: Mapping[str, Any]) -> None:
    for name, rank in _with_pattern(raw, "r", "rank_pattern"):
        if not is_whole(rank) or rank > MAX_RANK:
            raise ManifoldLoraError(f"{name} of adapter config", rank, f"an integer from 1 to {MAX_RANK}")
    rank = min(rank for _, rank in _with_pattern(raw, "r", "rank_pattern")) if "r" in raw else 1
    for name, alpha in _with_pattern(raw, "lora_alpha", "alpha_pattern"):
        bound = MAX_SCALING * rank
        if not is_number(alpha) or not 0 < abs(alpha) <= bound:
            allowed = f"a number of at most {bound:g} (10^4 times the rank)"
            raise ManifoldLoraError(f"{name} of adapter config", alpha, allowed)


def _with_pattern(raw: Mapping[str, Any], name: str, pattern: str) -> Iterator[tuple[str, Any]]:
    if name in raw:
        yield name, raw[name]
    entries = from_file(pattern, raw.get(pattern)) or {}
    if not isinstance(entries, dict):
        raise ManifoldLoraError(f"{pattern} of adapter config", entries, "a mapping from modules to numbers")
    for key, value in entries.items():
        yield f"{pattern}[{key!r}]", value
