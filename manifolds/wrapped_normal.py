"""The wrapped normal distribution on any symmetric geometry."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.func import jacfwd, vmap

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.gyro import gyroadd, gyroinverse


class WrappedNormal(Distribution):
    """Points gyroadd(loc, expmap0(v)) with free v ~ N(0, diag(scale^2)); densities are by Riemannian volume.

    Samples and densities are differentiable by loc, scale and kappa. Where expmap0 goes round (sphere), the
    density is that of the shortest way alone: keep scale well below the injectivity radius.

    Args:
        manifold: the geometry.
        loc: points (*batch, p).
        scale: standard deviations, a number or (..., n) of positive ones that broadcasts.

    Raises:
        PointError: loc is no point.
        ManifoldLoraError: a scale that is not positive or does not fit.
    Source: Nagano et al., arXiv 1902.02992.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, manifold: Manifold, loc: Float[Tensor, "*batch p"], scale: Tensor | float) -> None:
        manifold.check_point(loc)
        given = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        n = manifold.coords(loc).shape[-1]
        if not bool(((given > 0) & given.isfinite()).all()) or given.shape[-1:] not in ((), (1,), (n,)):
            got = given.tolist() if given.numel() < 10 else f"a tensor of shape {tuple(given.shape)}"
            raise ManifoldLoraError("scale of a wrapped normal", got, f"positive numbers, one or {n}")
        batch = torch.broadcast_shapes(loc.shape[:-1], given.shape[:-1])
        self.manifold = manifold
        self.loc, self.scale = loc.expand(*batch, loc.shape[-1]), given.expand(*batch, n)
        super().__init__(batch, loc.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "*size p"]:
        """Points (*sample_shape, *batch, p)."""
        noise = torch.randn((*sample_shape, *self.scale.shape), dtype=self.loc.dtype, device=self.loc.device)
        return gyroadd(self.manifold, self.loc, self.manifold.expmap0(self.scale * noise))

    def log_prob(self, value: Float[Tensor, "*size p"]) -> Float[Tensor, "*size"]:
        """log N(v; 0, scale^2) less the log of how much expmap0 stretches volumes at v."""
        m = self.manifold
        v = m.logmap0(gyroadd(m, gyroinverse(m, self.loc), value))
        normal = -0.5 * (v / self.scale).square().sum(-1) - self.scale.log().sum(-1)
        return normal - 0.5 * v.shape[-1] * math.log(2 * math.pi) - log_volume(m, v)


def log_volume(manifold: Manifold, v: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The log of how much expmap0 stretches volumes at v.

    For one curvature (n - 1) log(sinh(a)/a) with a = |v|/R, else half the log determinant of the metric in
    the coordinates of v.
    """
    low, high = manifold.curvature_range
    if low == high and hasattr(manifold, "curvature"):  # A product has none of its own.
        q = -manifold.curvature.at(v.dtype) * functions.square(v)
        return (v.shape[-1] - 1) * functions.sinhc(q).abs().log().squeeze(-1)

    def stretched(row: Tensor) -> Tensor:
        point, slopes = manifold.expmap0(row), jacfwd(manifold.expmap0)(row).mT
        gram = manifold.inner(point, slopes[:, None], slopes[None, :]).squeeze(-1)
        return 0.5 * torch.linalg.slogdet(gram)[1]

    return vmap(stretched)(v.reshape(-1, v.shape[-1])).view(v.shape[:-1])
