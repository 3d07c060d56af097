"""The paper's groups of words, from function words to concrete things, and the norms of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from manifold_lora.experiments.token_geometry.embeddings import EmbeddingTable
from manifold_lora.experiments.token_geometry.vocabulary import word_ids

# HypLoRA, arXiv 2410.04010, section 3: norms are said to rise from the first group to the last.
WORD_GROUPS: dict[str, tuple[str, ...]] = {
    "function words": ("the", "a", "of", "to", "and", "in", "is", "that", "for", "have"),
    "asking": ("how", "much", "many", "what", "when"),
    "general nouns": ("animal", "fruit", "number", "color", "time", "cost"),
    "specific": ("dog", "cow", "apple", "banana", "purple", "380", "480"),
}


@dataclass(frozen=True)
class WordGroup:
    """Mean, smallest and largest norm of a group; ``words`` maps each word to its norm, ``split`` lists those
    that the tokenizer cuts into pieces (their norm is the mean over the pieces)."""

    name: str
    mean: float
    low: float
    high: float
    words: dict[str, float]
    split: tuple[str, ...]


def word_groups(
    table: EmbeddingTable,
    tokenizer: PreTrainedTokenizerBase,
    groups: Mapping[str, Sequence[str]] = WORD_GROUPS,
) -> list[WordGroup]:
    """Norms of the words of each group; words the tokenizer only knows as unknown are left out."""
    result = []
    for name, words in groups.items():
        pieces = {word: word_ids(tokenizer, word) for word in words}
        known = {word: ids for word, ids in pieces.items() if ids and tokenizer.unk_token_id not in ids}
        if not known:
            continue
        norms = {word: float(table.norms[ids].mean()) for word, ids in known.items()}
        values = np.array(list(norms.values()))
        split = tuple(word for word, ids in known.items() if len(ids) > 1)
        result.append(
            WordGroup(name, float(values.mean()), values.min().item(), values.max().item(), norms, split)
        )
    return result
