"""Any method of peft as an arm: its config class, checked field by field."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.settings.methods import PEFT
from manifold_lora.experiments.settings.run import AdapterSettings

# What the runner states, and no option may.
_OURS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
}
_SEEDS = (
    "generator_seed",
    "proj_seed",
    "projection_prng_key",
    "projection_seed",
    "random_loc_seed",
    "random_seed",
)
# These say by themselves what they train: norms, the rows of the embedding.
_OWN_TARGETS = ("ln_tuning", "trainable_tokens")
_NOT = {
    "adalora": "its schedule is the run's: use method adalora",
    "adamss": "it needs scikit-learn",
    "manifold_lora": "use method manifold_lora",
    "bottleneck": "use method series or parallel",
    "multitask_prompt_tuning": "it needs the number of a task with every batch",
    "poly": "it needs the number of a task with every batch",
    "shadow": "it runs a second model beside the base",
    "xlora": "it needs trained adapters to begin with",
}


def peft_method(settings: AdapterSettings, seed: int) -> Any:
    """The config of ``method: peft.NAME``: ``options``, the settings' targets and task, and the run's seed.

    Rank, alpha and dropout of the settings are not read: each method has its own, among its options.
    Raises ManifoldLoraError for an unknown or unsupported method, option or value.
    """
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = {str(kind.value).lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    name = settings.method.removeprefix(PEFT)
    names = [f"{PEFT}{known}" for known in sorted(set(kinds) - set(_NOT))]
    if name in _NOT:
        raise ManifoldLoraError("adapter.method", settings.method, names, _NOT[name])
    if name not in kinds:
        raise UnknownNameError("adapter.method", settings.method, names)
    kind: Any = kinds[name]
    known = {field.name for field in dataclasses.fields(kind) if field.init} - _OURS
    options = _checked(kind, settings.options, known)
    stated: dict[str, Any] = {key: seed for key in _SEEDS if key in known}
    if "target_modules" in known and name not in _OWN_TARGETS:
        targets = settings.target_modules
        stated["target_modules"] = targets if isinstance(targets, str) else list(targets)
    try:
        return kind(task_type="CAUSAL_LM", **stated | options)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ManifoldLoraError(f"adapter.options of {settings.method}", options, reason) from error


def _checked(kind: Any, options: Any, known: set[str]) -> dict[str, Any]:
    """The options with their values as the config's fields are declared; peft itself checks no types."""
    if not isinstance(options, Mapping):
        raise ManifoldLoraError("adapter.options", options, "a mapping")
    hints, checked = get_type_hints(kind), {}
    for key, value in options.items():
        if key not in known:
            raise UnknownNameError("adapter.options", key, sorted(known))
        adapter = TypeAdapter(hints[key], config=ConfigDict(arbitrary_types_allowed=True))
        try:
            checked[key] = adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ")
            raise ManifoldLoraError(f"adapter.options.{key}", value, reason) from error
        if isinstance(value, bool) and not isinstance(checked[key], bool):
            raise ManifoldLoraError(f"adapter.options.{key}", value, "no truth value")
    return checked
