"""The Frechet mean of points, with the gradient of the exact one."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacfwd

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.base import Manifold

# A step shrinks what is left by R/(spread coth(spread/R)): enough for points up to 30 R apart.
_MOST_STEPS = 2000


def mean(
    manifold: Manifold, x: Float[Tensor, "*batch k p"], weights: Float[Tensor, "*batch k"] | None = None
) -> Float[Tensor, "*batch p"]:
    """The point with the least weighted sum of squared distances to k points, found in float64.

    Gradient descent with steps 1/L finds it. Its derivative by points, weights and kappa is that of the
    implicit function, dm = -H^(-1) dG with G the gradient at the mean and H its Hessian; first derivatives
    only.

    Args:
        manifold: the geometry.
        x: the points.
        weights: not negative, of any sum above 0; default all alike.

    Raises:
        PointError: x holds something that is no point.
        ManifoldLoraError: weights that are negative, not k or all 0; points further from their mean than half
            the injectivity radius, where it need not be the only one (Afsari, 2011); none in 2000 steps.
    """
    if x.dim() < 2:
        raise ManifoldLoraError("points of a mean", f"a tensor of shape {tuple(x.shape)}", "(..., k, p)")
    manifold.check_point(x)
    points = x.double()
    shares = _shares(points, weights)
    with torch.no_grad():
        found = _descend(manifold, points, shares)
    inputs = (points, shares, *manifold.parameters())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        found = _attached(manifold, found, points, shares)
    return manifold.store(found, x.dtype)


def _shares(x: Tensor, weights: Tensor | None) -> Tensor:
    """The weights (*batch, k) over their sum."""
    w = x.new_ones(x.shape[-2]) if weights is None else weights.to(x)
    fits = 0 < w.dim() < x.dim() and w.shape[-1] == x.shape[-2]
    if not fits or not bool((w >= 0).all() and (w.sum(-1) > 0).all() and w.isfinite().all()):
        allowed = f"{x.shape[-2]} numbers that are not negative, and not all 0"
        got = w.tolist() if w.numel() < 10 else f"a tensor of shape {tuple(w.shape)}"
        raise ManifoldLoraError("weights of a mean", got, allowed)
    return (w / w.sum(-1, keepdim=True)).expand(x.shape[:-1])


def _descend(manifold: Manifold, x: Tensor, shares: Tensor) -> Tensor:
    """The mean of (*batch, k, p), until steps are no longer than rounding makes them."""
    bend = max(-manifold.curvature_range[0], 0.0) ** 0.5
    share = shares[..., None]
    near = x.take_along_dim(share.argmax(-2, keepdim=True), -2)
    last = float("inf")
    for _ in range(_MOST_STEPS):
        way = manifold.logmap(near, x)
        reach, pull = manifold.norm(near, way), (share * way).sum(-2, keepdim=True)
        spread = torch.where(share > 0, reach, 0.0).amax().item()
        step = manifold.norm(near, pull).amax().item()
        # The Hessian of half the squared distance is at most a coth(a), a the distance in units of R.
        angle = (bend * reach).clamp_min(1e-6)
        near = manifold.expmap(near, pull / (share * angle / angle.tanh()).sum(-2, keepdim=True))
        if step <= 4 * torch.finfo(x.dtype).eps * spread or (step < 1e-3 * spread and step >= last):
            break
        last = step
    else:
        raise ManifoldLoraError("mean", f"none after {_MOST_STEPS} steps", "points that lie closer together")
    limit = manifold.injectivity_radius / 2
    if not spread < limit:
        hint = "points further apart may have several means"
        raise ManifoldLoraError("distance of points to their mean", spread, f"below {limit:.6g}", hint)
    return near.squeeze(-2)


def _attached(manifold: Manifold, found: Tensor, x: Tensor, shares: Tensor) -> Tensor:
    """One step of Newton's method from the mean found: 0 long, and differentiable as the exact mean is."""
    *_, k, width = x.shape
    base, points, share = found.view(-1, width), x.reshape(-1, k, width), shares.reshape(-1, k, 1)
    v = torch.zeros_like(manifold.coords(base)).requires_grad_()
    with torch.no_grad():
        # An orthonormal basis of each tangent space: that of the origin, carried along.
        at_origin = jacfwd(manifold.expmap0)(v[0]).mT
        frame = manifold.transp(manifold.expmap0(v[0]), base[:, None], at_origin)

    def placed(v: Tensor) -> Tensor:
        return manifold.expmap(base, manifold.proju(base, (v[:, None] @ frame)[:, 0]))

    cost = 0.5 * (share * manifold.sqdist(placed(v)[:, None], points)).sum()
    (slope,) = torch.autograd.grad(cost, v, create_graph=True)
    rows = [torch.autograd.grad(row.sum(), v, retain_graph=True)[0] for row in slope.unbind(-1)]
    return placed(-torch.linalg.solve(torch.stack(rows, -2), slope)).view(found.shape)
