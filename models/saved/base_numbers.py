"""A model folder's dropouts and token ids, which only training would refuse; torch-free."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError

# What families call a probability of dropping something out.
_DROPOUTS = ("dropout", "pdrop", "layerdrop", "dropout_prob")


def check_base_numbers(folder: Path) -> None:
    """Raise ManifoldLoraError for a dropout outside [0, 1], or a token without a row of the embeddings.

    What cannot be read is left to whoever loads the model.
    """
    config = _read(folder / "config.json")
    for key, value in _numbers(config):
        if key.endswith(_DROPOUTS) and not 0 <= value <= 1:
            raise ManifoldLoraError(f"{key} of model", value, "a number from 0 to 1", str(folder))
    rows = [value for key, value in _numbers(config) if key == "vocab_size"]
    try:
        largest = max(_token_ids(folder), default=-1)
    except (AttributeError, KeyError, TypeError):
        return
    if rows and largest >= max(rows):
        hint = "give the model the embeddings of its tokenizer: resize_token_embeddings, then save it"
        raise ManifoldLoraError(f"token id of {folder}", largest, f"0 to {max(rows) - 1:g}", hint)


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a config and of the configs inside it, by key."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value


def _token_ids(folder: Path) -> Iterator[int]:
    """The ids that a text may have: the vocabulary's, and those of the special tokens that are named.

    Other added tokens may lie beyond: Gemma's text models keep the id of an image that they never see.
    """
    tokenizer, named = _read(folder / "tokenizer.json"), _read(folder / "tokenizer_config.json")
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    yield from vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    said = [named.get(f"{kind}_token") for kind in ("bos", "eos", "pad", "unk")]
    special = [token["content"] if isinstance(token, dict) else token for token in said]
    for token in tokenizer.get("added_tokens", ()):
        if token["content"] in special:
            yield token["id"]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
