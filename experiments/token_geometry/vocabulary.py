"""A tokenizer by folder or name, and what its tokens look like."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.checkpoint_files import CheckpointFiles
from manifold_lora.models.saved.folders import has_whole_tokenizer


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises ManifoldLoraError where the model has none."""
    files = CheckpointFiles(name)
    reader = PreTrainedTokenizerFast if has_whole_tokenizer(Path(files.name)) else AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = reader.from_pretrained(files.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ManifoldLoraError("tokenizer", name, "a model with tokenizer.json", first) from error
    if not len(tokenizer):
        raise ManifoldLoraError(
            "tokenizer", name, "a tokenizer with a vocabulary", "no tokenizer files there"
        )
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool = True) -> list[list[int]]:
    """Token ids of every text, special tokens included unless ``special`` is false; never cut.

    Raises ManifoldLoraError where no text has a token.
    """
    ids: list[list[int]] = []
    if texts:
        encoded = tokenizer(list(texts), add_special_tokens=special, truncation=False, verbose=False)
        ids = encoded["input_ids"]
    if not any(ids):
        raise ManifoldLoraError("corpus", f"{len(texts)} texts without a token", "at least one token")
    return ids


def shown(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Tokens as the vocabulary spells them."""
    return [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]


def word_ids(tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
    """The ids of a word as it stands inside a text: with the leading space of byte-level vocabularies."""
    inside = tokenizer.encode(f" {word}", add_special_tokens=False)
    alone = tokenizer.encode(word, add_special_tokens=False)
    return list(inside if len(inside) <= len(alone) else alone)
