"""What every stage of a report works on: the model's embeddings, its tokenizer and the encoded corpus."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from manifold_lora.experiments.token_geometry.corpus import read_corpus
from manifold_lora.experiments.token_geometry.delta.distances import DISTANCES
from manifold_lora.experiments.token_geometry.embeddings import EmbeddingTable
from manifold_lora.experiments.token_geometry.frequency import count_tokens
from manifold_lora.experiments.token_geometry.prompts import DeltaOptions
from manifold_lora.experiments.token_geometry.settings import GeometrySettings
from manifold_lora.experiments.token_geometry.stage_cache import hash_texts
from manifold_lora.experiments.token_geometry.vocabulary import encode
from manifold_lora.models.load import load_tokenizer


@dataclass(frozen=True)
class Corpus:
    """Settings, embedding table, tokenizer and texts by set. Raises ManifoldLoraError if one is missing."""

    settings: GeometrySettings
    table: EmbeddingTable
    tokenizer: PreTrainedTokenizerBase
    texts: dict[str, list[str]]

    @classmethod
    def open(cls, settings: GeometrySettings) -> "Corpus":
        """Read what the settings name; the data first, because it is the cheapest to find missing."""
        texts = read_corpus(settings.data, settings.data_folder)
        return cls(settings, EmbeddingTable.open(settings.model), load_tokenizer(settings.model), texts)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What every result of this corpus depends on."""
        tokenizer = getattr(self.tokenizer, "backend_tokenizer", None)
        return {
            "embeddings": self.table.sha256,
            "tokenizer": tokenizer.to_str() if tokenizer is not None else self.tokenizer.get_vocab(),
            "texts": hash_texts(self.texts),
            "special_tokens": self.settings.special_tokens,
            "seed": self.settings.seed,
        }

    @cached_property
    def counts(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Distinct token ids of all sets and their occurrences, without special tokens; ids ascending."""
        counted = count_tokens(
            ids for texts in self.texts.values() for ids in encode(self.tokenizer, texts, special=False)
        )
        ids = np.array(sorted(counted), dtype=np.intp)
        return ids, np.array([counted[int(token)] for token in ids], dtype=np.intp)

    def measured_texts(self, limit: int) -> dict[str, list[str]]:
        """The first ``limit`` texts of every set."""
        return {name: texts[:limit] for name, texts in self.texts.items()}

    def clouds(self, name: str) -> Iterator[NDArray[np.float64]]:
        """The input embeddings (tokens, width) of a set's prompts that have tokens."""
        texts = self.texts[name][: self.settings.prompts]
        encoded = [ids for ids in encode(self.tokenizer, texts, self.settings.special_tokens) if ids]
        distinct = np.unique(np.concatenate([np.asarray(ids) for ids in encoded]))
        rows = self.table.rows(distinct)
        return (rows[np.searchsorted(distinct, ids)] for ids in encoded)

    @cached_property
    def delta_options(self) -> DeltaOptions:
        """The settings' way to measure delta, with a named geometry built."""
        distance: Any = self.settings.distance
        if not isinstance(distance, str) or distance not in DISTANCES:
            from manifold_lora.manifolds.build import build_manifold

            distance = build_manifold(distance)
        one = self.settings
        return DeltaOptions(distance, one.base, one.null_draws, one.seed, one.dtype)
