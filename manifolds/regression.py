"""The geodesic nearest to points that belong to times: regression on a manifold."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.frechet import mean
from manifold_lora.manifolds.gyro import gyroadd

_MOST_STEPS = 500


@dataclass(frozen=True)
class Geodesic:
    """The geodesic from the point ``start`` at the time ``first`` to ``end`` at ``last``, and beyond both."""

    manifold: Manifold
    start: Float[Tensor, " p"]
    end: Float[Tensor, " p"]
    first: float
    last: float

    def at(self, t: Float[Tensor, "*times"] | float) -> Float[Tensor, "*times p"]:
        """The points at these times."""
        t = torch.as_tensor(t, dtype=self.start.dtype, device=self.start.device)
        share = (t[..., None] - self.first) / (self.last - self.first)
        return self.manifold.geodesic(self.start, self.end, share)

    @property
    def velocity(self) -> Float[Tensor, " p"]:
        """The tangent vector at ``start`` by which the point moves in a unit of time."""
        return self.manifold.logmap(self.start, self.end) / (self.last - self.first)


def geodesic_regression(manifold: Manifold, t: Float[Tensor, " k"], y: Float[Tensor, "k p"]) -> Geodesic:
    """The geodesic with the least sum of squared distances to y at the times t, in float64.

    L-BFGS moves its two ends, which start on the geodesic through the mean of y along the least-squares slope
    of the logarithms there. Not differentiable.

    Raises:
        PointError: y holds something that is no point.
        ManifoldLoraError: times that are not one a point, not finite or all the same; and as ``mean``.
    Source: Fletcher, "Geodesic regression and the theory of least squares on Riemannian manifolds", 2013.
    """
    t, y = t.detach().double(), y.detach().double()
    if t.shape != y.shape[:-1] or t.dim() != 1 or not bool(t.isfinite().all()) or len(t.unique()) < 2:
        got = t.tolist() if t.numel() < 10 else f"a tensor of shape {tuple(t.shape)}"
        allowed = f"{y.shape[0] if y.dim() else 0} finite numbers that are not all the same"
        raise ManifoldLoraError("times of a regression", got, allowed)
    middle, s = mean(manifold, y), t - t.mean()
    slope = (s[:, None] * manifold.logmap(middle, y)).sum(0) / s.square().sum()
    ends = manifold.expmap(middle, torch.stack([s.amin(), s.amax()])[:, None] * slope)
    moves = torch.zeros_like(manifold.coords(ends)).requires_grad_()
    share = ((t - t.amin()) / (t.amax() - t.amin()))[:, None]
    search = torch.optim.LBFGS(
        [moves],
        max_iter=_MOST_STEPS,
        tolerance_grad=1e-14,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def placed() -> Tensor:
        return gyroadd(manifold, ends, manifold.expmap0(moves))

    def closure() -> Tensor:
        start, end = placed()
        loss = manifold.sqdist(manifold.geodesic(start, end, share), y).mean()
        # Not backward(): a learned curvature keeps its gradient as it was.
        (moves.grad,) = torch.autograd.grad(loss, moves)
        return loss

    with torch.enable_grad():
        search.step(closure)
    start, end = placed().detach()
    return Geodesic(manifold, start, end, t.amin().item(), t.amax().item())
