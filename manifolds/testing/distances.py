"""Properties of distances and of the curvature they reveal."""

import torch
from torch import Tensor

from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.testing.agreement import SLACK, Check
from manifold_lora.manifolds.testing.case import FACTORS, Case, with_curvature
from manifold_lora.manifolds.testing.properties import of_every_geometry


def _constant(case: Case) -> bool:
    return case.constant


@of_every_geometry()
def dist_symmetric(check: Check) -> None:
    """dist(x, y) = dist(y, x)."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    check.agree(m.dist(x, y), m.dist(y, x), case.length * case.condition)


@of_every_geometry()
def dist_triangle(check: Check) -> None:
    """dist(x, z) <= dist(x, y) + dist(y, z)."""
    case, m = check.case, check.case.manifold
    x, y, z = (case.point(index) for index in range(3))
    excess = (m.dist(x, z) - m.dist(x, y) - m.dist(y, z)).clamp_min(0.0)
    check.agree(excess, 0.0, case.length * case.condition)


@of_every_geometry()
def dist_zero(check: Check) -> None:
    """dist(x, x) = 0."""
    case, x = check.case, check.case.point(0)
    check.agree(case.manifold.dist(x, x.clone()), 0.0, case.length * case.condition)


@of_every_geometry()
def dist_small(check: Check) -> None:
    """dist(x, expmap(x, t u)) = t |u| down to t = 1e-8, as far as points that close can be stored."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    for t in (1e-2, 1e-4, 1e-6, 1e-8):
        y = m.expmap(x, case.tangent(x, 1, t * case.length))
        # What the rounding of y's coordinates may change, beside what the formula may.
        stored = case.length * case.condition**2 / 16
        check.agree(m.dist(x, y), t * case.length, t * case.length + stored)


@of_every_geometry()
def dist_of_logmap(check: Check) -> None:
    """dist(x, y) is the Riemannian length of logmap(x, y)."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    check.agree(m.dist(x, y), m.norm(x, m.logmap(x, y)), case.length * case.condition**2)


def _chord(kappa: Tensor, a: Tensor, b: Tensor, angle: Tensor) -> Tensor:
    """Third side of a geodesic triangle from two sides and their angle, by haversines; float64."""
    s = kappa.abs().sqrt()
    if kappa.item() == 0:
        return (a - b).square().add(4 * a * b * (angle / 2).sin().square()).sqrt()
    sine = torch.sinh if kappa.item() < 0 else torch.sin
    half = sine(s * (a - b) / 2).square() + sine(s * a) * sine(s * b) * (angle / 2).sin().square()
    inverse = torch.asinh if kappa.item() < 0 else torch.asin
    return 2 / s * inverse(half.clamp(0.0, 1.0 if kappa.item() > 0 else None).sqrt())


def _angle(cosine: Tensor, gap: Tensor) -> Tensor:
    """The angle between unit vectors, from their difference when it is small."""
    return torch.where(cosine > 0, 2 * (gap / 2).clamp(max=1).asin(), cosine.clamp(-1, 1).acos())


@of_every_geometry(applies=_constant)
def law_of_cosines(check: Check) -> None:
    """A triangle at the origin has the third side its curvature prescribes: kappa is what it claims."""
    case, m = check.case, check.case.manifold
    v, w = case.free(0), case.free(1, 0.7 * case.length)
    a, b = v.double().norm(dim=-1, keepdim=True), w.double().norm(dim=-1, keepdim=True)
    p, q = v.double() / a, w.double() / b
    angle = _angle((p * q).sum(-1, keepdim=True), (p - q).norm(dim=-1, keepdim=True))
    check.agree(
        m.dist(m.expmap0(v), m.expmap0(w)), _chord(case.kappa, a, b, angle), case.length * case.condition
    )


@of_every_geometry(applies=_constant)
def law_of_cosines_anywhere(check: Check) -> None:
    """The same for a triangle at any point, through inner and expmap."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    u, w = case.tangent(x, 1, 0.9 * case.length), case.tangent(x, 2, 0.6 * case.length)
    a, b = m.norm(x, u), m.norm(x, w)
    p, q = u / a, w / b
    angle = _angle(m.inner(x, p, q).double(), m.norm(x, p - q).double())
    want = _chord(case.kappa, a.double(), b.double(), angle)
    check.agree(m.dist(m.expmap(x, u), m.expmap(x, w)), want, case.length * case.condition**3)


@of_every_geometry()
def hinge_between(check: Check) -> None:
    """Two sides and their angle: the third side lies between those of the largest and least curvature."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    u, w = case.tangent(x, 1, 0.9 * case.length), case.tangent(x, 2, 0.6 * case.length)
    a, b = m.norm(x, u), m.norm(x, w)
    angle = _angle(m.inner(x, u / a, w / b).double(), m.norm(x, u / a - w / b).double())
    got = m.dist(m.expmap(x, u), m.expmap(x, w)).double()
    low, high = (
        _chord(torch.tensor([kappa], dtype=torch.float64), a.double(), b.double(), angle)
        for kappa in m.curvature_range
    )
    check.agree((got - low).clamp_min(0.0), 0.0, case.length * case.condition**3)
    check.agree((high - got).clamp_min(0.0), 0.0, case.length * case.condition**3)


@of_every_geometry()
def sqdist_is_the_square(check: Check) -> None:
    """sqdist(x, y) = dist(x, y)^2."""
    case, m, x, y = check.case, check.case.manifold, check.case.point(0), check.case.point(1)
    want = m.dist(x, y).double().square()
    check.agree(m.sqdist(x, y), want, case.length**2 * case.condition)
    check.agree(m.sqdist(x, x.clone()), 0.0, case.length**2 * case.condition)


@of_every_geometry()
def scaling_law(check: Check) -> None:
    """Curvature kappa/c^2 is the same geometry with lengths times c."""
    case, m = check.case, check.case.manifold
    c = 3.0
    larger = with_curvature(case.given, case.factor / c**2).to(case.dtype)
    v, w = case.free(0), case.free(1)
    stretched = larger.dist(larger.expmap0(c * v), larger.expmap0(c * w))
    check.agree(stretched, c * m.dist(m.expmap0(v), m.expmap0(w)), c * case.length * case.condition)


@of_every_geometry()
def flat_limit(check: Check) -> None:
    """As kappa -> 0 distances become Euclidean."""
    case = check.case
    v, w = case.free(0, case.radius), case.free(1, case.radius)
    # A chart not centred at zero stores points to eps of R, so there R must stay moderate.
    reach = 1e3 if case.floor else 1e9
    largest = case.kappa.abs().max().item() or 1.0
    flat = with_curvature(case.given, case.factor / largest / reach**2).to(case.dtype)
    want = (v.double() - w.double()).norm(dim=-1, keepdim=True)
    curved = case.radius**3 / reach**2 + (16 * case.eps * reach if case.floor else 0.0)
    got = flat.dist(flat.expmap0(v), flat.expmap0(w))
    check.agree(got, want, case.radius + curved / (SLACK * case.eps))


@of_every_geometry()
def stated_curvature(check: Check) -> None:
    """The curvature in effect is the one stated, for every factor."""
    case = check.case
    for factor in FACTORS:
        for module in with_curvature(case.given, factor).to(case.dtype).modules():
            if isinstance(module, Curvature):
                check.agree(module.kappa, module.stated, abs(module.stated) / 64)


def _turnable(case: Case) -> bool:
    return case.constant and case.n < 1000  # The rotation is made by a factorisation of n^3 steps.


@of_every_geometry(applies=_turnable)
def rotation_equivariance(check: Check) -> None:
    """Rotating free vectors changes no distance: no direction at the origin is special."""
    case, m = check.case, check.case.manifold
    generator = torch.Generator().manual_seed(case.seed)
    square = torch.randn(case.n, case.n, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(square)[0].to(case.dtype)
    v, w = case.free(0), case.free(1)
    turned = m.dist(m.expmap0(v @ turn), m.expmap0(w @ turn))
    check.agree(turned, m.dist(m.expmap0(v), m.expmap0(w)), case.length * case.condition)
