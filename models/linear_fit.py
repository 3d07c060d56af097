"""The linear map of rank r that is nearest to an update in the mean square over tokens, in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Eigenvalues below this share of the largest are directions that the tokens do not reach.
_REACHED = 1e-10
# A map with more freedom is taken where it lowers the error on held-out tokens by at least this much.
_WORTH = 0.99


@dataclass
class Moments:
    """Sums over tokens, in float64, of products of u = A x, the update d and (if ``whole``) the input x.

    They hold everything that fits and their errors need, so tokens are seen once and not kept: r (r + m)
    numbers for a layer, and n (n + m) more with ``whole``.
    """

    whole: bool = True
    tokens: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, x: Tensor, u: Tensor, d: Tensor) -> None:
        """Count tokens x (tokens, n) with u (tokens, r) and updates d (tokens, m)."""
        x, u, d = x.double(), u.double(), d.double()
        products = {"uu": u.T @ u, "du": d.T @ u, "dd": d.square().sum()}
        if self.whole:
            products |= {"xx": x.T @ x, "dx": d.T @ x}
        for name, product in products.items():
            self.sums[name] = self.sums[name] + product if name in self.sums else product
        self.tokens += len(x)

    def error(self, fit: "LinearFit") -> float:
        """sqrt(sum abs(d - W x)^2 / sum abs(d)^2) of a fit over these tokens; 0 where there is no update."""
        if float(self.sums["dd"]) == 0.0:
            return 0.0
        left, inner, cross = (
            (fit.up @ fit.down, self.sums["xx"], self.sums["dx"])
            if fit.name == "full"
            else (fit.up, self.sums["uu"], self.sums["du"])
        )
        residual = self.sums["dd"] - 2 * (left * cross).sum() + (left @ inner * left).sum()
        return float((residual / self.sums["dd"]).clamp_min(0.0).sqrt())


@dataclass(frozen=True)
class LinearFit:
    """x -> up down x with up (m, r) and down (r, n); ``gain`` is the scalar of the best multiple of B A.

    ``name`` says with how much freedom it was found: ``gain`` (a multiple of B A), ``matrix`` (any B for the
    given A), ``full`` (any map of rank r), or ``exact`` (the update is linear itself).
    """

    name: str
    up: Tensor
    down: Tensor
    gain: float = 1.0
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The error on the held-out tokens that the choice was made by."""
        return self.errors.get(self.name, 0.0)


def fit_linear(seen: Moments, held_out: Moments, down: Tensor, up: Tensor) -> LinearFit:
    """The best linear stand-in for an update, chosen by its error on tokens that were not fitted to.

    Args:
        seen: of the tokens to fit to.
        held_out: of other tokens.
        down: A (r, n).
        up: B times LoRA's scaling (m, r).

    With u = A x, ``gain`` is gamma B A, gamma = E<d, B u>/E abs(B u)^2, which is E[c abs(B u)^2]/E abs(B u)^2
    where d = c B u; ``matrix`` is E[d u^T] E[u u^T]^+ A; ``full`` is reduced-rank regression of d on x:
    [E[d x^T] E[x x^T]^(-1/2)]_r E[x x^T]^(-1/2), where [.]_r keeps the r largest singular values (Izenman,
    "Reduced-rank regression for the multivariate linear model", 1975). The first whose error none of the
    freer ones improves by a hundredth is taken.
    """
    down, up = down.double(), up.double()
    candidates = [_gain(seen, down, up), _matrix(seen, down)]
    if seen.whole and held_out.whole:
        candidates.append(_full(seen, len(down)))
    errors = {candidate.name: held_out.error(candidate) for candidate in candidates}
    best = candidates[0]
    for candidate in candidates[1:]:
        if errors[candidate.name] < _WORTH * errors[best.name]:
            best = candidate
    return LinearFit(best.name, best.up, best.down, candidates[0].gain, errors)


def _gain(seen: Moments, down: Tensor, up: Tensor) -> LinearFit:
    size = float((up @ seen.sums["uu"] * up).sum())
    gain = float((up * seen.sums["du"]).sum()) / size if size > 0 else 1.0
    return LinearFit("gain", gain * up, down, gain)


def _matrix(seen: Moments, down: Tensor) -> LinearFit:
    root = _inverse_root(seen.sums["uu"])
    return LinearFit("matrix", seen.sums["du"] @ root @ root.T, down)


def _full(seen: Moments, rank: int) -> LinearFit:
    root = _inverse_root(seen.sums["xx"])
    left, values, right = torch.linalg.svd(seen.sums["dx"] @ root, full_matrices=False)
    kept = min(rank, len(values))
    up = root.new_zeros(left.shape[0], rank)
    down = root.new_zeros(rank, root.shape[0])
    # Halves of the singular values on either side: both factors round alike.
    weights = values[:kept].sqrt()
    up[:, :kept] = left[:, :kept] * weights
    down[:kept] = weights[:, None] * (right[:kept] @ root.T)
    return LinearFit("full", up, down)


def _inverse_root(gram: Tensor) -> Tensor:
    """V with V V^T the inverse of a Gram matrix on the directions it reaches."""
    values, vectors = torch.linalg.eigh(gram)
    reached = values > _REACHED * values[-1].clamp_min(1e-300)
    return vectors[:, reached] / values[reached].sqrt()
