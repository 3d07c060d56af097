"""Tests of the tests: each published slip, and some of our own making, fails the property named for it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from manifold_lora.manifolds import (
    Curvature,
    Euclidean,
    Lorentz,
    Manifold,
    Poincare,
    Product,
    Sphere,
    Stereographic,
)
from manifold_lora.manifolds import functions as fn
from manifold_lora.manifolds.precision import as_given
from manifold_lora.manifolds.testing import PROPERTIES, ContractError, check_manifold
from manifold_lora.manifolds.testing.contract import try_property


class InverseTime(Lorentz):
    """The time coordinate of curvature 1/K beside maps of curvature K."""

    def _point(self, space: Tensor, k: Tensor) -> Tensor:
        return super()._point(space, 1 / k)

    def logmap0(self, x: Tensor) -> Tensor:
        space, s = x[..., 1:], self._k(x).sqrt()
        return torch.acosh(s * x[..., :1]) / s * space / space.norm(dim=-1, keepdim=True)


class ClampedAcosh(Lorentz):
    """logmap0 by acosh of a clamped time: derivative at the origin far from 1."""

    def logmap0(self, x: Tensor) -> Tensor:
        space, s = x[..., 1:], self._k(x).sqrt()
        length = torch.acosh((s * x[..., :1]).clamp_min(1 + 1e-7)) / s
        return length * space / space.norm(dim=-1, keepdim=True).clamp_min(1e-8)


class SoftplusCurvature(Curvature):
    """A softplus that nobody inverted: stated -1 is -1.3133."""

    def at(self, dtype: torch.dtype) -> Tensor:
        stated = super().at(dtype)
        return stated.sign() * torch.nn.functional.softplus(stated.abs())


class SphereLift(Lorentz):
    """lift puts vectors on a sphere while everything else is a hyperboloid."""

    def lift(self, z: Tensor) -> Tensor:
        time = torch.sqrt((1 / self._k(z) - fn.square(z)).clamp_min(0.0))
        return torch.cat([time, z], -1)

    def projx(self, x: Tensor) -> Tensor:
        return self._point(x[..., 1:], self._k(x))


class FlatMaps(Poincare):
    """Claims curvature, but its maps at the origin are the linear ones that may be merged."""

    def expmap0(self, v: Tensor) -> Tensor:
        return v / 2

    def logmap0(self, x: Tensor) -> Tensor:
        return 2 * x


class NoSignFlip(Lorentz):
    """egrad2rgrad projects the Euclidean gradient without flipping its time coordinate."""

    def egrad2rgrad(self, x: Tensor, g: Tensor) -> Tensor:
        return self.proju(x, g)


class IdentityTransport(Lorentz):
    """Parallel transport that returns its vector: an isometry, and not tangent at the target."""

    def _transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v


class SqrtBeforeClamp(Poincare):
    """A norm whose square root is taken before the clamp: NaN gradient at 0."""

    def expmap0(self, v: Tensor) -> Tensor:
        s = self._k(v).sqrt()
        length = v.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-15)
        return torch.tanh(s * length / 2) * v / (s * length)


class AcoshDistance(Lorentz):
    """Distance by acosh of the inner product: points closer than sqrt(eps) coincide."""

    def _dist(self, x: Tensor, y: Tensor) -> Tensor:
        k = self._k(x)
        product = x[..., :1] * y[..., :1] - fn.dot(x[..., 1:], y[..., 1:])
        return torch.acosh((k * product).clamp_min(1.0)) / k.sqrt()


class DoubleFrame(Poincare):
    """Free vectors in a frame where their distance is 2|v|."""

    def expmap0(self, v: Tensor) -> Tensor:
        return super().expmap0(2 * v)

    def logmap0(self, x: Tensor) -> Tensor:
        return super().logmap0(x) / 2


class BatchNorm(Sphere):
    """A norm over the whole batch instead of the last axis."""

    def expmap0(self, v: Tensor) -> Tensor:
        s = self._k(v).sqrt()
        length = fn.norm(v).amax() if v.ndim > 1 else fn.norm(v)
        return torch.cat(
            [torch.cos(s * length).expand(*v.shape[:-1], 1) / s, fn.sinhc(-(s * length).square()) * v], -1
        )


class NanHider(Lorentz):
    """nan_to_num against divergence: a broken run looks healthy."""

    def expmap0(self, v: Tensor) -> Tensor:
        return super().expmap0(v.nan_to_num())


class StorageRadius(Lorentz):
    """Vectors clipped at radius 4 'for stability'."""

    def expmap0(self, v: Tensor) -> Tensor:
        s = self._k(v).sqrt()
        return super().expmap0(v * fn.within(s * fn.norm(v), torch.full_like(s, 4.0)))


class HalfPrecisionTime(Lorentz):
    """Works in the dtype it is given: a bfloat16 hyperboloid is a staircase."""

    wider = {}  # noqa: RUF012


class ForgottenSquare(Poincare):
    """The metric with the conformal factor instead of its square."""

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return 2 * fn.dot(u, v) / self._factor(x, self._k(x))


class DetachedCurvature(Sphere):
    """Curvature enters as a number: nothing would ever be learned."""

    def _k(self, like: Tensor) -> Tensor:
        return super()._k(like).detach()


class ClampedLog(Lorentz):
    """logmap no longer than 4 R."""

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        u = super().logmap(x, y)
        return u * fn.within(self.norm(x, u), 4 * self._k(x).rsqrt())


class ClampedExp(Lorentz):
    """expmap no longer than 3 R."""

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return super().expmap(x, u * fn.within(self.norm(x, u), 3 * self._k(x).rsqrt()))


class ClampedChart(Lorentz):
    """chart_exp stops at 2 R, while expmap0 goes on."""

    def chart_exp(self, sq: Tensor) -> Tensor:
        return super().chart_exp(fn.capped(sq, 4 / self._k(sq)))

    def expmap0(self, v: Tensor) -> Tensor:
        s = self._k(v).sqrt()
        return self.lift(torch.sinh(s * fn.norm(v)) * fn.unit(v) / s)


class ShortReach(Lorentz):
    """max_radius says 2 R: whoever trusts it looks no further."""

    def max_radius(self, dtype: torch.dtype) -> Tensor:
        return 2 * (-self._kappa_at(dtype)).rsqrt()


class ForgetfulInner(Sphere):
    """The inner product of the first 32 coordinates."""

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return fn.dot(u[..., :32], v[..., :32])


class PairedDistance(Poincare):
    """Distances of (a, 1) with (1, b) are those of rows with rows."""

    def _dist(self, x: Tensor, y: Tensor) -> Tensor:
        if x.ndim > 2 and x.shape != y.shape:
            return (
                super()._dist(x, y.reshape(x.shape)).expand(*torch.broadcast_shapes(x.shape, y.shape)[:-1], 1)
            )
        return super()._dist(x, y)


class InPlaceProjection(Sphere):
    """projx writes into what it is given."""

    wider = {}  # noqa: RUF012

    def projx(self, x: Tensor) -> Tensor:
        return x.mul_(self._k(x).rsqrt() / fn.norm(x))


class LooksAtValues(Lorentz):
    """A branch in Python on the values of a batch."""

    def logmap0(self, x: Tensor) -> Tensor:
        return super().logmap0(x) if bool((x[..., 1:].abs() < 1e30).all()) else x[..., 1:]


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return fn.square(u)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return 2 * g * u


class OnceDifferentiable(Euclidean):
    """An autograd function whose backward has no backward."""

    def _sqdist(self, x: Tensor, y: Tensor) -> Tensor:
        square: Tensor = _Square.apply(y - x)
        return square


class DeadWhereTheyMeet(Poincare):
    """logmap without a gradient at x = y."""

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        same = (x == y).all(-1, keepdim=True)
        return torch.where(same, torch.zeros_like(y), super().logmap(x, y))


class WrongAboveZero(Stereographic):
    """Distances a tenth of a per cent too long where the curvature is positive."""

    def _dist(self, x: Tensor, y: Tensor) -> Tensor:
        return super()._dist(x, y) * torch.where(self._k(x) < 0, 1.001, 1.0)


class TurnedPairing(Lorentz):
    """Transport that, far out, takes the angle between the points from their sum."""

    def _transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        s = self._k(x).sqrt()
        far = (s * fn.norm(x[..., 1:]) > 1) & (s * fn.norm(y[..., 1:]) > 1)
        off = fn.dot(x[..., 1:] + y[..., 1:], v[..., 1:]) / fn.norm(x[..., 1:] + y[..., 1:])
        return super()._transp(x, y, v) + torch.where(far, 1e-3 * off, 0.0) * self.logmap(y, x)


class RootedSquare(Lorentz):
    """sqdist as the square of dist: its Hessian at x = y is 0."""

    def _sqdist(self, x: Tensor, y: Tensor) -> Tensor:
        return self._dist(x, y).square()


class HalfTheRange(Product):
    """Claims the curvatures of its flat part for the whole."""

    @property
    def curvature_range(self) -> tuple[float, float]:
        return 0.0, 0.0


class Drifting(Sphere):
    """A step that grows every point by a rounding error of 1e-10."""

    @as_given
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return super().expmap(x, u) * fn.norm(x) * (1 + 1e-10) * self._k(x).sqrt()


class Raising(Euclidean):
    """A geometry with a mistake that raises."""

    def egrad2rgrad(self, x: Tensor, g: Tensor) -> Tensor:
        raise RuntimeError("a mistake")


BROKEN: list[tuple[Manifold, str]] = [
    (ClampedLog(), "expmap_logmap_inverse"),
    (ClampedExp(), "expmap_length"),
    (ClampedChart(), "charts_are_the_maps"),
    (ShortReach(), "max_radius_is_honest"),
    (ForgetfulInner(), "expmap_length"),
    (PairedDistance(), "all_pairs"),
    (InPlaceProjection(), "arguments_stay"),
    (LooksAtValues(), "vectorised"),
    (LooksAtValues(), "traceable"),
    (OnceDifferentiable(), "second_derivatives"),
    (DeadWhereTheyMeet(), "logmap_where_points_meet"),
    (WrongAboveZero(-0.8), "dist_of_logmap"),
    (TurnedPairing(), "transport_parallel"),
    (RootedSquare(), "hessian_of_sqdist"),
    (HalfTheRange([(0.5, Lorentz(-0.5)), (0.5, Sphere(2.0))]), "hinge_between"),
    (Drifting(), "hundred_steps"),
    (Raising(), "riesz"),
    (InverseTime(-2.0), "expmap0_logmap0_inverse"),
    (InverseTime(-2.0), "proju_tangent"),
    (ClampedAcosh(), "derivative_at_origin"),
    (ClampedAcosh(), "expmap0_logmap0_inverse"),
    (Lorentz(SoftplusCurvature(-1.0)), "stated_curvature"),
    (SphereLift(), "lift_lands"),
    (FlatMaps(), "law_of_cosines"),
    (NoSignFlip(), "riesz"),
    (IdentityTransport(), "transport_tangent"),
    (SqrtBeforeClamp(), "gradients_finite"),
    (AcoshDistance(), "dist_small"),
    (DoubleFrame(), "radial_isometry"),
    (BatchNorm(), "batch_equals_loop"),
    (NanHider(), "nan_stays"),
    (StorageRadius(), "expmap0_logmap0_inverse"),
    (HalfPrecisionTime(), "half_precision"),
    (ForgottenSquare(), "expmap_length"),
    (DetachedCurvature(), "gradient_of_kappa"),
]


@pytest.mark.parametrize(
    ("manifold", "name"), BROKEN, ids=[f"{type(m).__name__}-{name}" for m, name in BROKEN]
)
def test_slip_fails_its_property(manifold: Manifold, name: str) -> None:
    _, example = try_property(manifold, PROPERTIES[name], examples=8, shrink=False)
    assert example, f"{type(manifold).__doc__} went unnoticed"


def test_message_names_property_and_smallest_case() -> None:
    with pytest.raises(ContractError) as caught:
        check_manifold(NoSignFlip(-2.0), examples=4, only=["riesz", "transport_isometric"])
    message = str(caught.value)
    assert "riesz: inner(x, egrad2rgrad(x, g), u) = <g, u>" in message
    assert "NoSignFlip(kappa=-2), float64, n=2, |v|=0.707107, seed=0" in message
    assert "transport" not in message


def test_a_geometry_that_raises_is_shown_with_its_case() -> None:
    _, example = try_property(Raising(), PROPERTIES["riesz"], examples=4)
    assert example == "Raising(kappa=0), float64, n=2, |v|=1, seed=0: raises RuntimeError: a mistake"
