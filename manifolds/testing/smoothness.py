"""Properties of second derivatives, and of first ones where two points meet."""

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.case import Case
from manifold_lora.manifolds.testing.gradients import MODERATE, _located, _quotient, _same, _total
from manifold_lora.manifolds.testing.properties import of_every_geometry


def _wide(case: Case) -> bool:
    return case.dtype == torch.float64 and case.n < 100


@of_every_geometry(applies=_wide, radii=(1.0, 0.1, 1e-4, 1e-8), effort=0.5)
def hessian_of_sqdist(check: Check) -> None:
    """Half the Hessian of sqdist at x = y is the metric, by two backward passes."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    for base in (x, m.origin(case.n, dtype=case.dtype).expand_as(x)):
        u = case.tangent(base, 1)
        t = torch.zeros(len(x), 1, dtype=case.dtype, requires_grad=True)
        half = m.sqdist(base, m.expmap(base, t * u)) / 2
        (slope,) = torch.autograd.grad(half.sum(), t, create_graph=True)
        check.agree(slope, 0.0, case.length**2)
        (second,) = torch.autograd.grad(slope.sum(), t)
        check.agree(second, case.length**2, case.length**2 * case.condition**2)


@of_every_geometry(effort=0.5)
def logmap_where_points_meet(check: Check) -> None:
    """The derivative of logmap(x, y) by y at y = x is the identity on tangent vectors."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    u = case.tangent(x, 1)
    slope = jvp(lambda y: m.proju(x, m.logmap(x, y)), x.clone(), u)[1]
    check.agree(slope, u, u.abs().amax(-1, keepdim=True) * case.condition**2)


@of_every_geometry(applies=_wide, radii=MODERATE, effort=0.5)
def second_derivatives(check: Check) -> None:
    """Gradients of gradients of every operation equal their difference quotients."""
    case, m = check.case, check.case.manifold
    starts = [case.free(index) for index in range(3)]
    steps = [case.free(3 + index) for index in range(3)]

    def slope(h: float, name: str, twice: bool = False) -> Tensor:
        moved = [(v + h * d).requires_grad_() for v, d in zip(starts, steps, strict=True)]
        with torch.enable_grad():
            total = _total(case, m, moved, name)
            grads = torch.autograd.grad(total, moved, create_graph=twice, materialize_grads=True)
            along = torch.stack([(g * d).sum() for g, d in zip(grads, steps, strict=True)]).sum()
            if not twice:
                return along
            seconds = (
                torch.autograd.grad(along, moved, materialize_grads=True, allow_unused=True)
                if along.requires_grad
                else [torch.zeros_like(v) for v in moved]
            )
            return torch.stack([(g * d).sum() for g, d in zip(seconds, steps, strict=True)]).sum()

    def try_one(name: str) -> None:
        _same(check, name, slope(0.0, name, twice=True), _quotient(lambda h: slope(h, name)))

    _located(try_one)
