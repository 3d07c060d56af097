"""Properties of transvections and parallel transport."""

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.properties import of_every_geometry


@of_every_geometry()
def transvection_moves(check: Check) -> None:
    """transvect(a, b, a) = b."""
    case, m, a, b = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    check.agree(m.dist(m.transvect(a, b, a), b), 0.0, case.length * case.condition**3)


@of_every_geometry()
def transvection_isometry(check: Check) -> None:
    """dist(transvect(a, b, x), transvect(a, b, y)) = dist(x, y)."""
    case, m = check.case, check.case.manifold
    a, b, x, y = (case.point(index, 0.5 * case.length) for index in range(4))
    moved = m.dist(m.transvect(a, b, x), m.transvect(a, b, y))
    check.agree(moved, m.dist(x, y), case.length * case.condition**3)


@of_every_geometry()
def transport_isometric(check: Check) -> None:
    """inner(y, transp(u), transp(v)) = inner(x, u, v)."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    u, v = case.tangent(x, 2), case.tangent(x, 3)
    moved = m.inner(y, m.transp(x, y, u), m.transp(x, y, v))
    check.agree(moved, m.inner(x, u, v), case.length**2 * case.condition**3)


@of_every_geometry()
def transport_tangent(check: Check) -> None:
    """transp(x, y, v) is tangent at y: proju keeps it."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    moved = m.transp(x, y, case.tangent(x, 2))
    check.agree(m.proju(y, moved), moved, moved.abs().amax(-1, keepdim=True) * case.condition**3)


@of_every_geometry()
def transport_inverse(check: Check) -> None:
    """transp(y, x, transp(x, y, v)) = v."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    v = case.tangent(x, 2)
    size = v.abs().amax(-1, keepdim=True) * case.condition**3
    check.agree(m.transp(y, x, m.transp(x, y, v)), v, size)


@of_every_geometry()
def transport_of_velocity(check: Check) -> None:
    """Transport carries the velocity of a geodesic along: transp(x, y, logmap(x, y)) = -logmap(y, x)."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    back = m.logmap(y, x)
    moved = m.transp(x, y, m.logmap(x, y))
    check.agree(moved, -back, back.abs().amax(-1, keepdim=True) * case.condition**3)


@of_every_geometry()
def transport_parallel(check: Check) -> None:
    """transp is the differential of the transvection along the geodesic."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    v = case.tangent(x, 2)
    moved = m.transp(x, y, v)
    want = Manifold._transp(m, x, y, v)
    check.agree(moved, want, (want.abs() + v.abs()).amax(-1, keepdim=True) * case.condition**4)


@of_every_geometry()
def midpoint_halves(check: Check) -> None:
    """The midpoint is half the distance from both ends."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    middle, whole = m.midpoint(x, y), m.dist(x, y)
    check.agree(m.dist(x, middle), whole / 2, case.length * case.condition**2)
    check.agree(m.dist(middle, y), whole / 2, case.length * case.condition**2)
