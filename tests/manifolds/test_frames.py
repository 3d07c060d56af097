"""Manifolds of matrices: projections and retractions against SVD, geoopt and exact geodesics."""

import geoopt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.frames import SAFE_STEP, Free, Landing, Oblique, Stiefel, inverse_root

FRAMES = [Stiefel(), Oblique(), Free()]


def rows(seed: int, r: int = 3, n: int = 7, batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, r, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("frames", FRAMES, ids=lambda f: type(f).__name__)
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), r=st.integers(1, 5), extra=st.integers(0, 4))
def test_projections_are_onto_and_tangent(frames, seed, r, extra):
    """projx lands and stays, proju is a projection, and its image is what projx's differential keeps."""
    X = frames.projx(rows(seed, r, r + extra))
    assert frames.drift(X).max() < 1e-12
    torch.testing.assert_close(frames.projx(X), X)
    U, V = frames.proju(X, rows(seed + 1, r, r + extra)), rows(seed + 2, r, r + extra)
    torch.testing.assert_close(frames.proju(X, U), U)
    torch.testing.assert_close((U * V).sum(), (U * frames.proju(X, V)).sum())
    moved = (frames.projx(X + 1e-6 * U) - frames.projx(X - 1e-6 * U)) / 2e-6
    torch.testing.assert_close(moved, U, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stretch", [1e-3, 1.0, 30.0])
def test_the_polar_factor_is_that_of_an_svd(dtype, stretch):
    X = rows(0).to(dtype) * stretch
    U, _, V = torch.linalg.svd(X.double(), full_matrices=False)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(Stiefel().projx(X).double(), U @ V, rtol=0, atol=300 * eps)
    assert Stiefel().drift(Stiefel().projx(X)).max() < 10 * eps


def test_stiefel_agrees_with_geoopt():
    X, G = Stiefel().projx(rows(0)), rows(1)
    theirs = geoopt.EuclideanStiefel()
    torch.testing.assert_close(Stiefel().proju(X, G).mT, theirs.proju(X.mT, G.mT))
    torch.testing.assert_close(Stiefel().proju(X, G).mT, theirs.egrad2rgrad(X.mT, G.mT))


def geodesic(X: torch.Tensor, U: torch.Tensor) -> torch.Tensor:
    """The geodesic of the embedded metric at time 1 (Edelman, Arias & Smith, 1998, section 2.2.2)."""
    Y, H, r = X.mT, U.mT, X.shape[0]
    A, S = Y.mT @ H, H.mT @ H
    block = torch.cat([torch.cat([A, -S], 1), torch.cat([torch.eye(r, dtype=X.dtype), A], 1)])
    return (torch.cat([Y, H], 1) @ torch.matrix_exp(block)[:, :r] @ torch.matrix_exp(-A)).mT


def test_the_retraction_is_of_third_order():
    """Halving a step divides its distance from the geodesic by eight; an order less would by four."""
    X = Stiefel().projx(rows(0))[0]
    U = Stiefel().proju(X, rows(1)[0])
    errors = [(Stiefel().retract(X, t * U) - geodesic(X, t * U)).norm().item() for t in (2e-2, 1e-2)]
    assert 7.5 < errors[0] / errors[1] < 8.5


@pytest.mark.parametrize("length", [1e-3, 1.0, 20.0])
def test_a_step_of_any_length_stays_on_stiefel(length):
    X = Stiefel().projx(rows(0).float())
    U = Stiefel().proju(X, rows(1).float())
    Y = Stiefel().retract(X, length * U)
    assert Stiefel().drift(Y).max() < 2e-6


def test_landing_never_leaves_and_arrives():
    """However long the steps, the defect stays bounded; once they stop it is gone in a few more."""
    landing, X = Landing(), Landing().projx(rows(0))
    for k in range(200):
        X = landing.retract(X, landing.proju(X, 5.0 * rows(k + 1)))
        assert landing.drift(X).max() < SAFE_STEP
    for _ in range(8):
        X = landing.retract(X, torch.zeros_like(X))
    assert landing.drift(X).max() < 1e-12


def test_inverse_root_of_an_ill_conditioned_matrix():
    Q = Stiefel().projx(rows(0, 6, 6))[0]
    values = torch.logspace(-8, 3, 6, dtype=torch.float64)
    gram = Q.mT @ (values[:, None] * Q)
    got = inverse_root(gram)
    torch.testing.assert_close(got, Q.mT @ (values.rsqrt()[:, None] * Q), rtol=1e-5, atol=1e-3)


def test_more_rows_than_columns_are_no_frame():
    with pytest.raises(ManifoldLoraError, match=r"rank of a frame: got 8; allowed: at most its width 7"):
        Stiefel().projx(rows(0, 8, 7))
