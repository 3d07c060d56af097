"""Structureless clouds to read a delta against: low values also come from nothing but width."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def gaussian(rows: Rows, rng: np.random.Generator) -> Rows:
    """Isotropic Gaussian directions with the norms of ``rows``: same n, width and norms, no structure.

    Fed with the distinct tokens of a prompt it keeps the repeats too: a repeated point changes no delta.
    """
    draws = rng.standard_normal(rows.shape)
    lengths = np.linalg.norm(draws, axis=1, keepdims=True)
    return draws * (np.linalg.norm(rows, axis=1, keepdims=True) / lengths)


def shuffled(rows: Rows, rng: np.random.Generator) -> Rows:
    """Each coordinate permuted among the rows: its distribution is kept, what rows share is lost."""
    return rng.permuted(rows, axis=0)


NULLS: dict[str, Callable[[Rows, np.random.Generator], Rows]] = {"gaussian": gaussian, "shuffled": shuffled}
