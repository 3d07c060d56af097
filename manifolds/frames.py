"""Manifolds of matrices with r rows in R^n, for low-rank weights: steps on them, and how far off they are."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.errors import ManifoldLoraError

Rows = Float[Tensor, "*batch r n"]

# Newton-Schulz steps: enough for a Gram matrix whose eigenvalues span ten decades.
_MOST_STEPS = 40
# The longest step, in the Frobenius norm, that landing takes: from there its pull brings every row back.
SAFE_STEP = 0.5


class Frames(ABC):
    """Matrices X (..., r, n), many at a time, with a retraction in place of geodesics: no log is needed.

    Raises ManifoldLoraError where r is larger than n.
    """

    @abstractmethod
    def projx(self, X: Rows) -> Rows:
        """The nearest matrix on the manifold."""

    @abstractmethod
    def proju(self, X: Rows, U: Rows) -> Rows:
        """The orthogonal projection of U on the tangent space at X."""

    @abstractmethod
    def defect(self, X: Rows) -> Float[Tensor, "*batch r r"]:
        """What is zero on the manifold and nowhere else."""

    def retract(self, X: Rows, U: Rows) -> Rows:
        """The point that a step U from X leads to, the geodesic's up to terms of order abs(U)^3."""
        return self.projx(X + U)

    @final
    def drift(self, X: Rows) -> Float[Tensor, "*batch"]:
        """The largest entry of ``defect``."""
        return self.defect(check_rows(X)).abs().amax((-2, -1))


def check_rows(X: Rows) -> Rows:
    """X itself, if it has no more rows than columns."""
    if X.shape[-2] > X.shape[-1]:
        raise ManifoldLoraError("rank of a frame", X.shape[-2], f"at most its width {X.shape[-1]}")
    return X


@final
class Free(Frames):
    """All matrices: no constraint."""

    def projx(self, X: Rows) -> Rows:
        """X."""
        return X

    def proju(self, X: Rows, U: Rows) -> Rows:
        """U."""
        return U

    def defect(self, X: Rows) -> Float[Tensor, "*batch r r"]:
        """0."""
        return X.new_zeros((*X.shape[:-1], X.shape[-2]))


@final
class Oblique(Frames):
    """Rows of length 1: a sphere for each."""

    def projx(self, X: Rows) -> Rows:
        """Every row over its length."""
        return X / torch.linalg.vector_norm(X, dim=-1, keepdim=True)

    def proju(self, X: Rows, U: Rows) -> Rows:
        """U - diag(<x_i, u_i>/<x_i, x_i>) X."""
        return U - (X * U).sum(-1, keepdim=True) / X.square().sum(-1, keepdim=True) * X

    def defect(self, X: Rows) -> Float[Tensor, "*batch r r"]:
        """diag(<x_i, x_i>) - 1."""
        return torch.diag_embed(X.square().sum(-1) - 1)


class Stiefel(Frames):
    """Orthonormal rows, X X^T = 1, in the metric of the space around; the retraction is the polar factor."""

    def projx(self, X: Rows) -> Rows:
        """The polar factor (X X^T)^(-1/2) X."""
        factor = inverse_root(check_rows(X) @ X.mT) @ X
        # What the rounding of the root left over: one step on the rows themselves squares it.
        return _newton(factor)

    def proju(self, X: Rows, U: Rows) -> Rows:
        """U - sym(U X^T) X."""
        product = U @ X.mT
        return U - 0.5 * (product + product.mT) @ X

    def defect(self, X: Rows) -> Float[Tensor, "*batch r r"]:
        """X X^T - 1."""
        return X @ X.mT - torch.eye(X.shape[-2], dtype=X.dtype, device=X.device)


@final
class Landing(Stiefel):
    """Orthonormal rows in the limit: each step is free of any root, and pulls X back by its own defect.

    X + U - (X X^T - 1) X/2, steps longer than 1/2 shortened to it (Ablin & Peyre, arXiv 2102.07432, with the
    pull of a Newton-Schulz step; PoLAR, arXiv 2506.03133, trains adapters so).
    """

    def retract(self, X: Rows, U: Rows) -> Rows:
        """X + U, and the pull towards orthonormal rows."""
        length = torch.linalg.matrix_norm(U, keepdim=True)
        U = U * (SAFE_STEP / length.clamp_min(SAFE_STEP))
        return X + U - 0.5 * self.defect(X) @ X


def inverse_root(gram: Float[Tensor, "*batch r r"]) -> Float[Tensor, "*batch r r"]:
    """gram^(-1/2) of positive definite matrices, by Newton's iteration for the matrix sign in products alone.

    Y, Z <- Y T, T Z with T = (3 - Z Y)/2 (Higham, "Functions of Matrices", 2008, section 6.7).
    """
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    size = gram.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)
    Y, Z = gram / size, one.expand_as(gram)
    for _ in range(_MOST_STEPS):
        error = one - Z @ Y
        # The step that squares an error below the root of the dtype's spacing is the last one.
        last = bool(error.abs().amax() ** 2 < torch.finfo(gram.dtype).eps)
        T = one + 0.5 * error
        Y, Z = Y @ T, T @ Z
        if last:
            break
    return Z * size.rsqrt()


def _newton(X: Rows) -> Rows:
    """(3 - X X^T) X/2: the polar factor where X is near it."""
    return 1.5 * X - 0.5 * (X @ X.mT) @ X
