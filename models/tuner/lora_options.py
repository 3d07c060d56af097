"""Options of peft's LoraConfig that have no meaning when the update is computed on a manifold."""

from dataclasses import fields
from typing import Any

from peft import LoraConfig

from manifold_lora.errors import LinearOnlyError, ManifoldLoraError
from manifold_lora.numbers import is_number, is_whole

INITIALISATIONS = (True, False, "gaussian")

# Beyond the fields that peft itself marks as variants of LoRA (use_dora, velora_config, ...).
_LINEAR_ONLY = {
    "use_qalora": "it pools the input of a linear A",
    "loftq_config": "it rewrites the base weight around a linear B A",
    "eva_config": "it needs peft's own LoRA tuner to set A",
    "corda_config": "it rewrites the base weight around a linear B A",
    "lora_ga_config": "it rewrites the base weight around a linear B A",
    "lora_bias": "a bias after B would leave the tangent space at the origin",
    "target_parameters": "a bare parameter has no input vector to put on a manifold",
    "megatron_config": "its shards see only part of each vector, so norms would be local",
    "ensure_weight_tying": "it ties an embedding, which has no input vector",
}


def refuse_linear_only(config: LoraConfig) -> None:
    """Raise LinearOnlyError for the first option that only plain LoRA can honour."""
    if config.init_lora_weights not in INITIALISATIONS:
        raise LinearOnlyError(
            "init_lora_weights",
            config.init_lora_weights,
            "True, False, gaussian",
            "other initialisations split the base weight for a linear update; use peft.LoraConfig for those",
        )
    variants = {
        f.name: "it is another variant of LoRA" for f in fields(config) if f.metadata.get("is_lora_variant")
    }
    for name, reason in {**variants, **_LINEAR_ONLY}.items():
        value: Any = getattr(config, name, None)
        if value:
            raise LinearOnlyError(name, value, "unset", f"{reason}; use peft.LoraConfig for it")


def check_numbers(config: LoraConfig) -> None:
    """Raise ManifoldLoraError unless ranks are positive integers and alphas finite and not zero."""
    for where, rank in {"r": config.r, **_entries("rank_pattern", config.rank_pattern)}.items():
        if not is_whole(rank):
            raise ManifoldLoraError(where, rank, "an integer of at least 1")
    alphas = {"lora_alpha": config.lora_alpha, **_entries("alpha_pattern", config.alpha_pattern)}
    for where, alpha in alphas.items():
        if not is_number(alpha) or alpha == 0:
            raise ManifoldLoraError(where, alpha, "a finite number other than 0")
    dropout: Any = config.lora_dropout
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ManifoldLoraError("lora_dropout", dropout, "a number in [0, 1)")


def _entries(name: str, pattern: Any) -> dict[str, Any]:
    if not isinstance(pattern, dict | None):
        raise ManifoldLoraError(name, pattern, "a mapping from modules to numbers")
    return {f"{name}[{key!r}]": value for key, value in (pattern or {}).items()}
