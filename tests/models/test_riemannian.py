"""geoopt's Riemannian optimisers find what they should on our manifolds."""

import geoopt
import pytest
import torch

from manifold_lora.experiments.examples.trees import (
    balanced_tree,
    distortion,
    path_lengths,
    unfold,
)
from manifold_lora.manifolds import Lorentz, Manifold, Poincare, PointError, Sphere
from manifold_lora.models.riemannian import riemannian_parameter


@pytest.mark.parametrize("optimizer", [geoopt.optim.RiemannianAdam, geoopt.optim.RiemannianSGD])
@pytest.mark.parametrize("manifold", [Lorentz(), Poincare(), Sphere()], ids=repr)
def test_optimisers_reach_a_target(optimizer: type, manifold: Manifold) -> None:
    generator = torch.Generator().manual_seed(1)
    start, target = manifold.random(2, 5, generator=generator, dtype=torch.float64)
    point = riemannian_parameter(start, manifold)
    descent = optimizer(
        [point], lr=0.1, stabilize=10, **({} if "Adam" in optimizer.__name__ else {"momentum": 0.5})
    )
    for _ in range(150):
        descent.zero_grad()
        manifold.dist(point, target).square().sum().backward()
        descent.step()
    assert manifold.dist(point.detach(), target).item() < 1e-3


def test_unfolding_keeps_the_edges() -> None:
    edges = balanced_tree(branching=2, depth=3)
    manifold = Poincare(-4.0)
    points = unfold(manifold, edges)
    a, b = torch.tensor(edges).T
    torch.testing.assert_close(
        manifold.dist(points[a], points[b]), torch.ones(len(edges), 1, dtype=torch.float64)
    )
    assert distortion(manifold, points, path_lengths(edges)).item() < 0.15


def test_parameter_must_start_on_the_manifold() -> None:
    with pytest.raises(PointError, match="off the manifold"):
        riemannian_parameter(torch.zeros(4), Lorentz())
