"""The dumb computations that the fast ones are held against."""

from itertools import combinations

import numpy as np


def four_point_delta(distances):
    """Largest (first - second) / 2 of the three sums over all quadruples, in float64."""
    d = distances.astype(np.float64)
    best = 0.0
    for a, b, c, w in combinations(range(len(d)), 4):
        sums = sorted((d[a, b] + d[c, w], d[a, c] + d[b, w], d[a, w] + d[b, c]))
        best = max(best, (sums[2] - sums[1]) / 2)
    return best


def based_delta(distances, w):
    """The n^3 array of the definition, for one base point."""
    d = distances.astype(np.float64)
    products = (d[w][:, None] + d[w][None, :] - d) / 2
    return float((np.minimum(products[:, :, None], products[None, :, :]).max(axis=1) - products).max())


def blocked_delta(distances, w):
    """The same row by row, O(n^2) memory and O(n^3) time: the naive way to be exact at n = 1500."""
    d = distances.astype(np.float64)
    products = (d[w][:, None] + d[w][None, :] - d) / 2
    return max(float((np.minimum(row, products).max(axis=1) - row).max()) for row in products)
