"""Properties of the charts at the origin: expmap0, logmap0, lift, coords, projx."""

import math
from typing import cast

import torch

from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.case import FAR, Case
from manifold_lora.manifolds.testing.properties import of_every_geometry


def _resolved(case: Case) -> bool:
    return case.condition * case.eps < 1e-3


def _radial(case: Case) -> bool:
    return isinstance(case.manifold, Radial)


@of_every_geometry()
def origin(check: Check) -> None:
    """origin(n) is expmap0(0), a point, n + extra_dims long, and logmap0 takes it to 0."""
    case, m = check.case, check.case.manifold
    o = m.origin(case.n, dtype=case.dtype)
    check.hold(o.shape == (case.n + m.extra_dims,), f"origin has shape {tuple(o.shape)}")
    check.agree(m.projx(o), o)
    check.agree(m.logmap0(o), 0.0, case.unit * 1e-3)
    check.agree(m.coords(o), m.coords(m.expmap0(torch.zeros_like(case.free(0)))), case.unit)


@of_every_geometry(applies=_resolved, radii=FAR, alone=True)
def expmap0_logmap0_inverse(check: Check) -> None:
    """logmap0(expmap0(v)) = v, from 1e-8 to the largest distance the dtype resolves."""
    case, v = check.case, check.case.free(0)
    check.agree(case.manifold.logmap0(case.manifold.expmap0(v)), v, case.length * case.condition)


@of_every_geometry(applies=_resolved, radii=FAR, alone=True)
def radial_isometry(check: Check) -> None:
    """dist(origin, expmap0(v)) = |v|: free vectors are in an orthonormal frame."""
    case, m, v = check.case, check.case.manifold, check.case.free(0)
    o = m.origin(case.n, dtype=case.dtype)
    want = v.double().norm(dim=-1, keepdim=True)
    check.agree(m.dist(o, m.expmap0(v)), want, want * case.condition)
    check.agree(m.dist(m.expmap0(v), o), want, want * case.condition)


@of_every_geometry()
def lift_coords_inverse(check: Check) -> None:
    """coords(lift(z)) = z, and lift(coords(x)) = x for points near the origin."""
    case, m = check.case, check.case.manifold
    z = 0.5 * m.coords(case.point(0))  # Inside a bounded chart as its points are.
    check.agree(m.coords(m.lift(z)), z, z.abs().amax(-1, keepdim=True))
    x = case.point(1)
    check.agree(m.lift(m.coords(x)), x, x.abs().amax(-1, keepdim=True) * case.condition)


@of_every_geometry()
def lift_lands(check: Check) -> None:
    """lift(z) is on the manifold: projx keeps it and logmap0 then expmap0 come back to it."""
    case, m = check.case, check.case.manifold
    x = m.lift(0.5 * m.coords(case.point(0)))
    size = x.abs().amax(-1, keepdim=True) * case.condition
    check.agree(m.projx(x), x, size)
    check.agree(m.expmap0(m.logmap0(x)), x, size)


@of_every_geometry()
def expmap0_lands(check: Check) -> None:
    """expmap0(v) is on the manifold: projx keeps it."""
    x = check.case.point(0)
    check.agree(check.case.manifold.projx(x), x, x.abs().amax(-1, keepdim=True) * check.case.condition)


@of_every_geometry()
def projx_lands(check: Check) -> None:
    """projx of any vector nearby is a point: projecting again or going by logmap0 changes nothing."""
    case, m = check.case, check.case.manifold
    base = case.point(0)
    x = m.projx(base + 0.1 * case.length * case.ambient(base, 0) / base.shape[-1])
    size = x.abs().amax(-1, keepdim=True) * case.condition**2
    check.agree(m.projx(x), x, size)
    check.agree(m.expmap0(m.logmap0(x)), x, size)


@of_every_geometry(applies=_radial)
def charts_are_the_maps(check: Check) -> None:
    """chart_exp and chart_log are expmap0 and logmap0 seen in coordinates."""
    case, m, v = check.case, cast(Radial, check.case.manifold), check.case.free(0)
    sq = v.square().sum(-1, keepdim=True)
    check.agree(m.coords(m.expmap0(v)), m.chart_exp(sq) * v, v.abs().amax(-1, keepdim=True) * case.condition)
    z = 0.5 * m.coords(m.expmap0(v))
    got = m.logmap0(m.lift(z))
    want = m.chart_log(z.square().sum(-1, keepdim=True)) * z
    check.agree(got, want, want.abs().amax(-1, keepdim=True) * case.condition)


@of_every_geometry()
def point_check(check: Check) -> None:
    """check_point accepts the points of the geometry."""
    check.case.manifold.check_point(check.case.point(0), check.case.n)


@of_every_geometry(radii=(1.0,))
def max_radius_is_honest(check: Check) -> None:
    """max_radius is as far as logmap goes, or as the dtype has digits for."""
    case, m = check.case, check.case.manifold
    stated, (low, _) = m.max_radius(case.dtype).min().item(), m.curvature_range
    digits = -0.4 * math.log(case.eps) / math.sqrt(-low) if low < 0 else math.inf
    least = min(digits, m.injectivity_radius)
    check.hold(stated >= least * (1 - 1e-6), f"max_radius is {stated:g}, points reach {least:g}")


@of_every_geometry(radii=(1.0,))
def stated_sizes(check: Check) -> None:
    """A point of dimension n has width(n) coordinates, and the curvatures lie within curvature_range."""
    case, m = check.case, check.case.manifold
    check.hold(m.width(case.n) == case.point(0).shape[-1], f"width({case.n}) is {m.width(case.n)}")
    low, high = m.curvature_range
    inside = low <= case.kappa.min().item() and case.kappa.max().item() <= high
    check.hold(inside, f"curvature_range is ({low:g}, {high:g})")
