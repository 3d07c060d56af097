"""Tests of the tests: each published slip, and some of our own making, fails the property named for it."""

import pytest
import torch
from torch import Tensor

from manifold_lora.manifolds import Curvature, Lorentz, Manifold, Poincare, Sphere
from manifold_lora.manifolds import functions as fn
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
        return torch.cat([torch.cos(s * length).expand(*v.shape[:-1], 1) / s, fn.sinc_of(s * length) * v], -1)


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


BROKEN: list[tuple[Manifold, str]] = [
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
    told = str(caught.value)
    assert "riesz: inner(x, egrad2rgrad(x, g), u) = <g, u>" in told
    assert "NoSignFlip(kappa=-2), float64, n=2, |v|=0.707107, seed=0" in told
    assert "transport" not in told
