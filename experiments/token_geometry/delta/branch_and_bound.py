"""The search behind `hyperbolicity`: which pairs can still beat the best delta, and what they reach."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from manifold_lora.experiments.token_geometry.delta.ultrametric import closure

Matrix = NDArray[np.floating]
Indices = NDArray[np.intp]

_BLOCK = 1 << 17  # entries worked on at a time: 1 MB, within a core's second-level cache
_DENSE = 0.02  # share of surviving pairs above which the tighter, dearer bound pays...
_MANY = 50_000  # ...and the number of them: below, looking at every pair is cheaper


@dataclass
class Bar:
    """The largest 2 delta seen so far and where; a pair whose bound is not above it is never looked at.

    ``rounding`` is what the rounding of the distances can do to a bound: pairs within it of the bar are ties.
    """

    rounding: float
    twice_delta: float = 0.0
    witness: tuple[int, int, int, int] | None = None

    @property
    def threshold(self) -> float:
        """The bound a pair must exceed to be looked at."""
        return self.twice_delta + self.rounding

    def lift(self, value: float, witness: tuple[int, int, int, int]) -> None:
        """Move up to ``value`` if that is higher."""
        if value > self.twice_delta:
            self.twice_delta, self.witness = value, witness


def row_blocks(n: int) -> Iterator[slice]:
    """Row ranges of an (n, n) matrix small enough for the cache."""
    step = max(1, _BLOCK // n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def raise_bar(bar: Bar, distances: Matrix, w: int, products: Matrix) -> None:
    """Lift the bar to 2 delta_w if that is higher; ``products`` is scratch for twice the Gromov products."""
    tops = _fill_products(distances, w, products)
    _look_at_equal_pair(bar, distances[w], tops, products, w)
    bound, partner = _promising_pairs(products, tops)
    rows = np.flatnonzero(bound > bar.threshold)
    _evaluate(bar, products, w, rows, partner[rows], bound[rows])
    rows = rows[bound[rows] > bar.threshold]
    if not len(rows):
        return
    bounds_of = partial(_bounds, products, tops)
    survivors = sum(np.count_nonzero(bounds_of(some) > bar.threshold) for some in _split(rows, tops))
    if survivors > max(_MANY, _DENSE * products.size):
        bounds_of = partial(_closure_bounds, products, closure(products))
    for some in _split(rows, tops):
        bounds = bounds_of(some)
        i, b = np.nonzero(bounds > bar.threshold)
        once = b > some[i]
        i, b = i[once], b[once]
        _evaluate(bar, products, w, some[i], b, bounds[i, b])


def _split(rows: Indices, tops: Matrix) -> Iterator[Indices]:
    step = max(1, _BLOCK // len(tops))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _fill_products(distances: Matrix, w: int, products: Matrix) -> Matrix:
    """Write 2 (a|b)_w with -inf on the diagonal; return each row's largest entry."""
    radius = distances[w]
    tops = np.empty_like(radius)
    for rows in row_blocks(len(radius)):
        block = products[rows]
        np.subtract(radius, distances[rows], out=block)
        block += radius[rows, None]
        _off_diagonal(block, np.arange(rows.start, rows.stop))
        block.max(axis=1, out=tops[rows])
    return tops


def _off_diagonal(block: Matrix, rows: Indices) -> Matrix:
    block[np.arange(len(rows)), rows] = -np.inf
    return block


def _bounds(products: Matrix, tops: Matrix, rows: Indices) -> Matrix:
    """min(m_a, m_b) - 2 (a|b)_w for the given rows a and every b, -inf where a = b."""
    bounds = np.minimum(tops[rows, None], tops)
    # Consecutive rows (nearly always) are read in place; fancy indexing would copy them.
    whole = len(rows) == rows[-1] - rows[0] + 1
    bounds -= products[rows[0] : rows[-1] + 1] if whole else products[rows]
    return _off_diagonal(bounds, rows)


def _closure_bounds(products: Matrix, reach: Matrix, rows: Indices) -> Matrix:
    """u(a,b) - 2 (a|b)_w with u the max-min closure, -inf where a = b."""
    return _off_diagonal(reach[rows] - products[rows], rows)


def _look_at_equal_pair(bar: Bar, radius: Matrix, tops: Matrix, products: Matrix, w: int) -> None:
    """The case a = b: never positive for a metric, but 1 - cos is not a metric."""
    excess = tops - 2.0 * radius
    a = int(excess.argmax())
    bar.lift(float(excess[a]), (a, a, int(products[a].argmax()), w))


def _promising_pairs(products: Matrix, tops: Matrix) -> tuple[Matrix, Indices]:
    """For every row its highest bound and the partner that has it."""
    best, partner = np.empty_like(tops), np.empty(len(tops), dtype=np.intp)
    for rows in row_blocks(len(tops)):
        bounds = _bounds(products, tops, np.arange(rows.start, rows.stop))
        bounds.argmax(axis=1, out=partner[rows])
        best[rows] = bounds[np.arange(len(bounds)), partner[rows]]
    return best, partner


def _evaluate(bar: Bar, products: Matrix, w: int, a: Indices, b: Indices, bounds: Matrix) -> None:
    """Exact max over c for the given pairs, highest bound first, until no bound is above the bar."""
    order = np.argsort(-bounds)
    step = max(1, _BLOCK // len(products))
    for start in range(0, len(order), step):
        if bounds[order[start]] <= bar.threshold:
            return
        some = order[start : start + step]
        smaller = np.minimum(products[a[some]], products[b[some]])
        excess = smaller.max(axis=1) - products[a[some], b[some]]
        best = int(excess.argmax())
        place = int(a[some[best]]), int(b[some[best]])
        bar.lift(float(excess[best]), (*place, int(smaller[best].argmax()), w))
