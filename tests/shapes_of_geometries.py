"""Every operation of every registered geometry once, run by test_shapes.py with the annotations checked."""

import pytest
import torch

from manifold_lora.manifolds import build_manifold
from manifold_lora.manifolds.registry import MANIFOLDS

# Six free coordinates: three on each part.
PARTS = {"name": "product", "parts": [{"share": 0.5, "name": "lorentz"}, {"share": 0.5, "name": "euclidean"}]}


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", list(MANIFOLDS))
def test_operations_keep_their_shapes(name, batch):
    manifold = build_manifold(PARTS if name == "product" else name)
    x, y = (manifold.random(*batch, 6) for _ in range(2))
    u = manifold.proju(x, torch.randn_like(x))
    results = {
        "point": [
            manifold.expmap(x, u),
            manifold.projx(x),
            manifold.midpoint(x, y),
            manifold.transvect(x, y, x),
        ],
        "vector": [manifold.logmap(x, y), manifold.transp(x, y, u), manifold.egrad2rgrad(x, u)],
        "free": [manifold.logmap0(x), manifold.coords(x)],
        "scalar": [manifold.dist(x, y), manifold.inner(x, u, u), manifold.norm(x, u)],
    }
    widths = {"point": x.shape[-1], "vector": x.shape[-1], "free": 6, "scalar": 1}
    for kind, values in results.items():
        assert all(value.shape == (*batch, widths[kind]) for value in values), kind
