"""The input embedding matrix of a checkpoint, read row block by row block without loading the model."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoConfig, AutoModel

from manifold_lora.errors import ManifoldLoraError, PointError
from manifold_lora.experiments.token_geometry.checkpoint_files import CheckpointFiles

_BLOCK = 8192  # rows read at a time
# Names under which nearly all families store the matrix. Where just one tensor matches, it is that one.
_USUAL = (
    "embed_tokens.weight",
    "word_embeddings.weight",
    "wte.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "shared.weight",
)
_TIED = "lm_head.weight"


@dataclass(frozen=True)
class EmbeddingTable:
    """One (vocabulary, width) tensor of a safetensors file."""

    path: Path
    tensor: str
    vocabulary: int
    width: int

    @classmethod
    def open(cls, name: str) -> "EmbeddingTable":
        """Find the input embeddings of a model by folder or name, in one file or in shards.

        Raises ManifoldLoraError for a checkpoint without safetensors or without such a matrix.
        """
        files = CheckpointFiles(name)
        shards = files.shard_of()
        tensor = _stored_name(files, shards)
        path = files.find(shards[tensor])
        if path is None:
            raise ManifoldLoraError(
                "shard of model", shards[tensor], f"a file of {name}", "incomplete checkpoint"
            )
        with safe_open(path, "pt") as file:
            shape = file.get_slice(tensor).get_shape()
        if len(shape) != 2:
            raise ManifoldLoraError(f"embeddings {tensor}", tuple(shape), "(vocabulary, width)")
        return cls(path, tensor, *shape)

    def blocks(self, starts: Iterable[int] | None = None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, rows) of blocks in float32: those that begin at ``starts``, or all in order."""
        with safe_open(self.path, "pt") as file:
            matrix = file.get_slice(self.tensor)
            for start in range(0, self.vocabulary, _BLOCK) if starts is None else starts:
                yield start, matrix[start : start + _BLOCK].to(torch.float32).numpy()

    def rows(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """The rows of the given token ids, (len(ids), width). Raises ManifoldLoraError for an unknown id."""
        wanted = np.asarray(ids, dtype=np.intp)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.vocabulary:
            hint = "does the tokenizer belong to this model?"
            raise ManifoldLoraError("token id", int(wanted.max()), f"0 to {self.vocabulary - 1}", hint)
        result = np.empty((len(wanted), self.width))
        for start, block in self.blocks((np.unique(wanted // _BLOCK) * _BLOCK).tolist()):
            here = (wanted >= start) & (wanted < start + len(block))
            result[here] = block[wanted[here] - start]
        return result

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """Euclidean norm of every row, (vocabulary,). Raises PointError for a row with NaN or infinity."""
        norms = np.concatenate(
            [np.linalg.norm(block.astype(np.float64), axis=1) for _, block in self.blocks()]
        )
        bad = np.flatnonzero(~np.isfinite(norms))
        if len(bad):
            got = f"NaN or infinity in the rows of tokens {bad[:5].tolist()}"
            raise PointError(f"embeddings {self.tensor}", got, "finite rows", f"{len(bad)} such rows")
        return norms

    @cached_property
    def sha256(self) -> str:
        """Hash of the matrix alone, so that other weights of the model do not count."""
        digest = hashlib.sha256(repr((self.vocabulary, self.width)).encode())
        for _, block in self.blocks():
            digest.update(np.ascontiguousarray(block).tobytes())
        return digest.hexdigest()


def _stored_name(files: CheckpointFiles, shards: dict[str, str]) -> str:
    """The checkpoint's name for the input embeddings: a usual one, or what the family's own code calls it."""
    usual = [key for key in shards for name in _USUAL if key == name or key.endswith(f".{name}")]
    if len(usual) == 1:
        return usual[0]
    for name in (_family_name(files), *_USUAL, _TIED):
        found = [key for key in shards if name and _same(key, name)]
        if found:
            return min(found, key=len)
    allowed = f"a tensor named {', '.join((*_USUAL, _TIED))}"
    raise ManifoldLoraError("input embeddings", files.name, allowed)


def _same(key: str, name: str) -> bool:
    """Whether two dotted names differ by a prefix only."""
    return key == name or key.endswith(f".{name}") or name.endswith(f".{key}")


def _family_name(files: CheckpointFiles) -> str | None:
    """Name of the input embeddings in the family's module tree, built without memory, or None."""
    config: Any
    try:
        config = AutoConfig.for_model(**files.config())
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        matrix = model.get_input_embeddings().weight
        return next((name for name, value in model.named_parameters() if value is matrix), None)
    except (KeyError, ValueError, TypeError, AttributeError, NotImplementedError, ImportError, RuntimeError):
        # A family that transformers does not know: the usual names are all there is to go by.
        return None
