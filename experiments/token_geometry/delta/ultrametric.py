"""The tighter bound on max-min products: the best bottleneck over paths of any length."""

import numpy as np
from numpy.typing import NDArray


def closure(products: NDArray[np.floating]) -> NDArray[np.floating]:
    """Max-min closure u(a,b) = max over paths a..b of the smallest entry on the path; diagonal 0.

    u >= the one-step max-min product, with equality of u and the products themselves on a tree, so it bounds
    what a pair can reach. Prim's maximum spanning tree in O(n^2) time; nothing but the result is n x n.

    Args:
        products: (n, n) symmetric; the diagonal is not read.

    Source: Gower and Ross 1969 (spanning trees and the subdominant ultrametric).
    """
    n = len(products)
    bottleneck = np.zeros_like(products)
    reach, via = products[0].copy(), np.zeros(n, dtype=np.intp)
    reach[0] = -np.inf
    joined = np.zeros(1, dtype=np.intp)
    outside = np.ones(n, dtype=bool)
    outside[0] = False
    for _ in range(n - 1):
        new = int(reach.argmax())
        edge, old = reach[new], via[new]
        row = np.minimum(bottleneck[old, joined], edge)
        row[joined == old] = edge
        bottleneck[new, joined] = bottleneck[joined, new] = row
        outside[new] = False
        joined = np.append(joined, new)
        nearer = outside & (products[new] > reach)
        reach[nearer], via[nearer] = products[new, nearer], new
        reach[new] = -np.inf
    return bottleneck
