"""Properties of tangent vectors: proju, inner, egrad2rgrad, expmap, logmap."""

from torch import Tensor
from torch.autograd.functional import jvp

from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.properties import of_every_geometry


def _size(check: Check, u: Tensor) -> Tensor:
    return u.abs().amax(-1, keepdim=True) * check.case.condition**2


@of_every_geometry()
def proju_idempotent(check: Check) -> None:
    """proju(x, proju(x, u)) = proju(x, u)."""
    m, x = check.case.manifold, check.case.point(0)
    u = m.proju(x, check.case.ambient(x, 0))
    check.agree(m.proju(x, u), u, _size(check, u))


@of_every_geometry()
def proju_tangent(check: Check) -> None:
    """proju(x, u) is tangent at x: the differential of projx keeps it."""
    m, x = check.case.manifold, check.case.point(0)
    u = m.proju(x, check.case.ambient(x, 0))
    check.agree(jvp(m.projx, x, u)[1], u, _size(check, u))


@of_every_geometry()
def logmap_tangent(check: Check) -> None:
    """logmap(x, y) is tangent at x: proju keeps it."""
    m, x = check.case.manifold, check.case.point(0)
    u = m.logmap(x, check.case.point(1))
    check.agree(m.proju(x, u), u, _size(check, u))


@of_every_geometry()
def expmap_logmap_inverse(check: Check) -> None:
    """expmap(x, logmap(x, y)) = y and logmap(x, expmap(x, u)) = u."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    there = m.expmap(x, m.logmap(x, y))
    check.agree(m.coords(there), m.coords(y), m.coords(y).abs().amax(-1, keepdim=True) * case.condition**2)
    u = case.tangent(x, 2)
    back = m.logmap(x, m.expmap(x, u))
    # The step is the difference of two points: their rounding is what limits it.
    check.agree(
        back, u, (u.abs() + x.abs()).amax(-1, keepdim=True).clamp_min(case.length) * case.condition**2
    )


@of_every_geometry()
def expmap_length(check: Check) -> None:
    """dist(x, expmap(x, u)) is the Riemannian length of u."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    u = case.tangent(x, 1)
    check.agree(m.dist(x, m.expmap(x, u)), m.norm(x, u), case.length * case.condition**2)


@of_every_geometry()
def inner_symmetric_bilinear(check: Check) -> None:
    """inner(x, u, v) is symmetric, linear and positive."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    u, v, w = (case.tangent(x, index) for index in (1, 2, 3))
    size = case.length**2 * case.condition**2
    check.agree(m.inner(x, u, v), m.inner(x, v, u), size)
    check.agree(m.inner(x, u, 2 * v - w), 2 * m.inner(x, u, v) - m.inner(x, u, w), size)
    check.agree(m.inner(x, u, u), case.length**2, size)


@of_every_geometry()
def riesz(check: Check) -> None:
    """inner(x, egrad2rgrad(x, g), u) = <g, u> for every tangent u."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    g = case.ambient(x, 0)
    u = m.proju(x, case.ambient(x, 1))
    want = (g.double() * u.double()).sum(-1, keepdim=True)
    size = g.norm(dim=-1, keepdim=True) * u.norm(dim=-1, keepdim=True) * case.condition**2
    check.agree(m.inner(x, m.egrad2rgrad(x, g), u), want, size)


@of_every_geometry()
def egrad2rgrad_tangent(check: Check) -> None:
    """egrad2rgrad(x, g) is tangent at x: proju keeps it."""
    m, x = check.case.manifold, check.case.point(0)
    gradient = m.egrad2rgrad(x, check.case.ambient(x, 0))
    check.agree(m.proju(x, gradient), gradient, _size(check, gradient))
