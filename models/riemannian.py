"""geoopt's Riemannian optimisers on our manifolds, through the seven methods that they call."""

from typing import Any

import geoopt
import torch
from torch import Tensor

from manifold_lora.manifolds.base import Manifold


class GeooptManifold(geoopt.Manifold):
    """One of our geometries as geoopt's optimisers see it: expmap as retraction, our transport and gradients.

    ``geoopt.ManifoldParameter(x, GeooptManifold(Lorentz()))`` is then a parameter for
    ``geoopt.optim.RiemannianAdam`` and ``RiemannianSGD`` (Bécigneul & Ganea, arXiv 1810.00760). Points are
    stored as vectors on the last axis; reductions drop it unless ``keepdim``.
    """

    name = "manifold_lora"
    ndim = 1
    reversible = False

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        near = torch.allclose(self.manifold.projx(x), x, atol=atol, rtol=rtol)
        return near, None if near else "projx moves the point"

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        near = torch.allclose(self.manifold.proju(x, u), u, atol=atol, rtol=rtol)
        return near, None if near else "proju moves the vector"

    def projx(self, x: Tensor) -> Tensor:
        """Back on the manifold, against drift."""
        return self.manifold.projx(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """On the tangent space at x."""
        return self.manifold.proju(x, u)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The Riemannian gradient."""
        return self.manifold.egrad2rgrad(x, u)

    def inner(self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False) -> Tensor:
        """Inner product at x."""
        product = self.manifold.inner(x, u, u if v is None else v)
        return product if keepdim else product.squeeze(-1)

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """The inner product, once per component: one second moment per point, which is geometric."""
        return self.inner(x, u, v, keepdim=True).expand_as(u)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """The geodesic step."""
        return self.manifold.expmap(x, u)

    retr = expmap

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector from x to y."""
        return self.manifold.logmap(x, y)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The geodesic distance."""
        length = self.manifold.dist(x, y)
        return length if keepdim else length.squeeze(-1)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport, which moves the momentum along."""
        return self.manifold.transp(x, y, v)


def riemannian_parameter(point: Tensor, manifold: Manifold) -> Any:
    """A ``geoopt.ManifoldParameter`` at ``point``.

    Raises:
        PointError: the tensor is not a point of the manifold.
    """
    manifold.check_point(point)
    return geoopt.ManifoldParameter(point.clone(), manifold=GeooptManifold(manifold))
