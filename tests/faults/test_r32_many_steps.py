"""R32: a thousand exp/log steps stay on the manifold to 1e-12, on every geometry, and end in the mean."""

import pytest
import torch

from manifold_lora.manifolds import Euclidean, Lorentz, Manifold, Poincare, Product, Sphere, Stereographic

STEPS = 1000
GEOMETRIES: dict[str, Manifold] = {
    "euclidean": Euclidean(),
    "lorentz": Lorentz(-0.7),
    "poincare": Poincare(-0.7),
    "stereographic, kappa < 0": Stereographic(-0.4),
    "stereographic, kappa > 0": Stereographic(0.4),
    "sphere": Sphere(0.7),
    "product": Product([(0.5, Lorentz(-0.5)), (0.5, Sphere(2.0))]),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_thousand_steps_stay_on_the_manifold(name: str, tally) -> None:
    """The mean of a cloud by steps along its mean logarithm, which a slip off the manifold would amplify."""
    manifold, generator = GEOMETRIES[name], torch.Generator().manual_seed(1)
    cloud = manifold.random(20, 4, radius=0.5, generator=generator, dtype=torch.float64)
    mean, stayed = cloud[0], 0
    for _ in range(STEPS):
        mean = manifold.expmap(mean, manifold.logmap(mean, cloud).mean(0))
        stayed += bool((manifold.projx(mean) - mean).abs().max() <= 1e-12)
    assert manifold.logmap(mean, cloud).mean(0).abs().max() <= 1e-12
    tally("R32", f"{name}: steps on the manifold to 1e-12", stayed, STEPS)
