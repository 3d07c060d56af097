"""What a tokenizer makes of texts and words, and what its tokens look like."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError


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
