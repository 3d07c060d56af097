"""Properties of derivatives: right at the origin, finite everywhere, equal to difference quotients."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.testing.agreement import Check, PropertyFailure
from manifold_lora.manifolds.testing.case import Case, with_curvature
from manifold_lora.manifolds.testing.properties import of_every_geometry

# Difference quotients need digits: they are taken in float64 at moderate distances.
MODERATE = (1.0, 0.5, 0.1)
_NAMES = [
    "expmap0",
    "logmap0",
    "lift",
    "projx",
    "proju",
    "inner",
    "egrad2rgrad",
    "expmap",
    "logmap",
    "dist",
    "sqdist",
    "transp",
]

# A free vector and three points.
Operation = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _wide(case: Case) -> bool:
    return case.dtype == torch.float64


def _curved(case: Case) -> bool:
    return _wide(case) and bool((case.kappa != 0).any())


def _operations(m: Manifold) -> dict[str, Operation]:
    """Every operation, as a function of a free vector and of three points."""
    return {
        "expmap0": lambda a, x, y, z: x,
        "logmap0": lambda a, x, y, z: m.logmap0(x),
        "lift": lambda a, x, y, z: m.lift(a / 2),
        "projx": lambda a, x, y, z: m.projx(x),
        "proju": lambda a, x, y, z: m.proju(x, y),
        "inner": lambda a, x, y, z: m.inner(x, y, z),
        "egrad2rgrad": lambda a, x, y, z: m.egrad2rgrad(x, y),
        "expmap": lambda a, x, y, z: m.expmap(x, m.proju(x, y)),
        "logmap": lambda a, x, y, z: m.logmap(x, y),
        "dist": lambda a, x, y, z: m.dist(x, y),
        "sqdist": lambda a, x, y, z: m.sqdist(x, y),
        "transp": lambda a, x, y, z: m.transp(x, y, m.proju(x, z)),
    }


def _total(case: Case, m: Manifold, free: Sequence[Tensor], only: str = "") -> Tensor:
    """Sum of the results of every operation (or of one), each entry with its own weight."""
    total, points = torch.zeros((), dtype=case.dtype), [m.expmap0(v) for v in free]
    for name, act in _operations(m).items():
        if only in ("", name):
            value = act(free[0], *points)
            total = total + (value * case.ambient(value, 9)).sum()
    return total


def _located(try_one: Callable[[str], None]) -> None:
    """Try all operations in one sum, and one by one only to say which of them failed."""
    try:
        try_one("")
    except PropertyFailure:
        for name in _NAMES:
            try_one(name)
        raise


def _quotient(act: Callable[[float], Tensor], h: float = 1e-3) -> Tensor:
    """Fourth-order central difference quotient at 0."""
    with torch.no_grad():
        return (8 * (act(h) - act(-h)) - (act(2 * h) - act(-2 * h))) / (12 * h)


def _same(check: Check, name: str, slope: Tensor, quotient: Tensor) -> None:
    case = check.case
    size = max(case.unit, 1 / case.unit) * case.condition
    error = abs(slope.item() - quotient.item())
    allowed = 1e-6 * max(size, abs(quotient.item()))
    message = f"{name or 'the sum'}: derivative {slope.item():.9g}, difference quotient {quotient.item():.9g}"
    check.hold(error <= allowed, message)
    check.worst.note(error, error / max(size, abs(quotient.item())), allowed)


@of_every_geometry(effort=0.5)
def derivative_at_origin(check: Check) -> None:
    """The derivative of logmap0 after expmap0 is the identity at 0 and at every small vector."""
    case, m = check.case, check.case.manifold
    for v in (torch.zeros_like(case.free(0)), case.free(0)):
        direction = case.free(1, 1.0)
        start = v.clone().requires_grad_()
        (pulled,) = torch.autograd.grad(m.logmap0(m.expmap0(start)), start, direction)
        check.agree(pulled, direction, case.condition)


@of_every_geometry(applies=_wide, radii=MODERATE, effort=0.5)
def gradients_are_derivatives(check: Check) -> None:
    """Reverse-mode gradients of every operation equal its difference quotients."""
    case, m = check.case, check.case.manifold
    starts = [case.free(index).requires_grad_() for index in range(3)]
    steps = [case.free(3 + index) for index in range(3)]

    def try_one(name: str) -> None:
        grads = torch.autograd.grad(_total(case, m, starts, name), starts, materialize_grads=True)
        slope = torch.stack([(g * d).sum() for g, d in zip(grads, steps, strict=True)]).sum()
        quotient = _quotient(
            lambda h: _total(case, m, [v + h * d for v, d in zip(starts, steps, strict=True)], name)
        )
        _same(check, name, slope, quotient)

    _located(try_one)


@of_every_geometry(applies=_curved, radii=MODERATE, effort=0.5)
def gradient_of_kappa(check: Check) -> None:
    """d/dkappa of every operation equals its difference quotient."""
    case = check.case
    free = [case.free(index) for index in range(3)]
    learned, raws = _learned(case)

    def try_one(name: str) -> None:
        total = _total(case, learned, free, name)
        slope = torch.zeros(())
        if total.requires_grad:
            grads = torch.autograd.grad(total, raws, materialize_grads=True)
            slope = torch.stack([g.sum() for g in grads]).sum()
        quotient = _quotient(lambda h: _total(case, _scaled(case, h), free, name))
        _same(check, f"{name or 'the sum'} by log kappa", slope, quotient)

    _located(try_one)


def _scaled(case: Case, log_factor: float) -> Manifold:
    return with_curvature(case.given, case.factor * math.exp(log_factor)).to(case.dtype)


def _learned(case: Case) -> tuple[Manifold, list[Tensor]]:
    """A copy with every non-zero curvature learned, where d/d raw = d/d log kappa; and its parameters."""
    raws: list[Tensor] = []
    manifold = _scaled(case, 0.0)
    for module in manifold.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, Curvature) and child.stated != 0:
                learned = type(child)(child.stated, "learned").to(child.raw.dtype)
                setattr(module, name, learned)
                raws.append(learned.raw)
    return manifold, raws


@of_every_geometry(effort=0.5)
def gradients_finite(check: Check) -> None:
    """No gradient is NaN or Inf: at 0, at x = y, near and far from the origin."""
    case, m = check.case, check.case.manifold
    zero, a, b, c = torch.zeros_like(case.free(0)), case.free(0), case.free(1), case.free(2)
    for place, triple in {
        "at 0": (zero, zero, zero),
        "from 0": (zero, a, b),
        "to 0": (a, zero, b),
        "at x = y": (a, a, b),
        "at x, y": (a, b, c),
    }.items():

        def try_one(name: str, place: str = place, triple: tuple[Tensor, ...] = triple) -> None:
            starts = [v.clone().requires_grad_() for v in triple]
            grads = torch.autograd.grad(_total(case, m, starts, name), starts, materialize_grads=True)
            check.finite(f"gradient of {name or 'the sum'} {place}", *grads)

        _located(try_one)


@of_every_geometry()
def gradient_of_squared_distance(check: Check) -> None:
    """The Riemannian gradient of dist(x, y)^2/2 at x is -logmap(x, y), for close and for equal points too."""
    case, m, x = check.case, check.case.manifold, check.case.point(0)
    for share in (1.0, 1e-4, 0.0):
        y = m.expmap(x, share * case.tangent(x, 1))
        start = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((m.dist(start, y).square() / 2).sum(), start)
        want = -m.logmap(x, y)
        size = (x.abs() + want.abs()).amax(-1, keepdim=True).clamp_min(case.length) * case.condition**2
        check.agree(m.egrad2rgrad(x, gradient), want, size)
