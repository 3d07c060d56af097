"""Means, sums, distributions and regressions on every geometry: closed forms, geoopt, planted truths."""

import math

import geoopt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError, PointError
from manifold_lora.manifolds import (
    Curvature,
    Euclidean,
    Lorentz,
    Poincare,
    Product,
    Sphere,
    Stereographic,
    WrappedNormal,
    geodesic_regression,
    gyration,
    gyroadd,
    gyroinverse,
    gyroscale,
    mean,
)
from manifold_lora.manifolds.frechet import _attached
from manifold_lora.manifolds.wrapped_normal import log_volume

GEOMETRIES = {
    "lorentz": Lorentz(-1.3),
    "poincare": Poincare(-0.7),
    "sphere": Sphere(0.8),
    "stereographic": Stereographic(-0.4),
    "euclidean": Euclidean(),
    "product": Product([(0.5, Lorentz(-1.0)), (0.5, Sphere(0.5))]),
}


@pytest.fixture(params=GEOMETRIES, scope="module")
def space(request):
    return GEOMETRIES[request.param].double()


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cloud(space, *size, radius=0.5, seed=0):
    return space.expmap0(normal(*size, seed=seed) * radius / size[-1] ** 0.5)


def test_the_mean_of_two_points_lies_between_them(space):
    x = cloud(space, 2, 4)
    torch.testing.assert_close(mean(space, x), space.midpoint(x[0], x[1]))
    weighted = mean(space, x, torch.tensor([1.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(weighted, space.geodesic(x[0], x[1], 0.75))


@settings(max_examples=5, deadline=None)
@given(radius=st.sampled_from([1e-6, 0.1, 0.7]), seed=st.integers(0, 99))
def test_at_the_mean_the_pulls_cancel_and_isometries_carry_it_along(space, radius, seed):
    x = cloud(space, 3, 5, 4, radius=radius, seed=seed)
    found = mean(space, x)
    pull = space.logmap(found[:, None], x).mean(-2)
    assert space.norm(found, pull).max() < 1e-14 * max(1.0, 1e3 * radius)
    a, b = cloud(space, 2, 4, seed=seed + 1)
    moved = mean(space, space.transvect(a, b, x))
    assert space.dist(moved, space.transvect(a, b, found)).max() < 1e-13


def test_far_points_too_have_their_mean():
    """Spread over 12 R, where steps of plain gradient descent are too long by a factor of 12."""
    space = Lorentz(-1.0).double()
    x = space.expmap0(12 * torch.nn.functional.normalize(normal(6, 3), dim=-1))
    found = mean(space, x)
    assert space.norm(found, space.logmap(found, x).mean(0)).item() < 1e-9
    assert mean(space, x.float()).dtype == torch.float32


def test_the_gradient_of_the_mean_is_that_of_the_exact_one(space):
    """By points and weights, against difference quotients; the iteration itself is never differentiated."""
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v, w: space.logmap0(mean(space, space.expmap0(v), w)),
        ((0.3 * normal(3, 2)).requires_grad_(), weights.requires_grad_()),
        atol=1e-7,
        fast_mode=True,
    )


def test_a_batch_of_means_has_the_gradients_of_midpoints():
    """What is differentiated must not leave the range of floats with the size of a batch."""
    space, v = Lorentz(-1.0).double(), (1.5 * normal(1024, 2, 2)).requires_grad_()
    ends = space.expmap0(v)
    midpoint = space.geodesic(ends[:, 0], ends[:, 1], torch.tensor(0.5, dtype=torch.float64))
    found = _attached(space, midpoint.detach(), ends, torch.full((1024, 2), 0.5, dtype=torch.float64))
    got, exact = (
        torch.autograd.grad(space.logmap0(x).sum(), v, retain_graph=True)[0] for x in (found, midpoint)
    )
    torch.testing.assert_close(got, exact, rtol=1e-6, atol=1e-7)


def test_the_gradient_of_the_mean_by_kappa():
    def first(kappa):
        space = Lorentz(Curvature(kappa, "learned")).double()
        return space, space.logmap0(mean(space, space.expmap0(0.5 * normal(5, 3))))[0]

    space, value = first(-1.0)
    value.backward()
    # kappa = kappa0 exp(raw), so that d/d raw is kappa d/d kappa.
    quotient = (first(-1.0 - 1e-5)[1] - first(-1.0 + 1e-5)[1]) / 2e-5
    torch.testing.assert_close(space.curvature.raw.grad.sum(), quotient.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, r"distance of points to their mean: got .*; allowed: below 1.5708"),
        ([1.0, -1.0, 0.0, 1.0], "weights of a mean: got .*; allowed: 4 numbers"),
        ([0.0, 0.0, 0.0, 0.0], "weights of a mean"),
        ([1.0, 1.0], "weights of a mean"),
        ([math.nan, 1.0, 1.0, 1.0], "weights of a mean"),
    ],
)
def test_points_round_the_sphere_and_bad_weights_have_no_mean(weights, message):
    space = Sphere(1.0).double()
    corners = [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    x = space.projx(torch.tensor(corners, dtype=torch.float64))
    with pytest.raises(ManifoldLoraError, match=message):
        mean(space, x, None if weights is None else torch.tensor(weights))
    with pytest.raises(PointError, match="off the manifold"):
        mean(space, 2 * x)


@pytest.mark.parametrize("kappa", [-1.0, -0.3, 0.4])
def test_gyroadd_is_moebius_addition(kappa):
    """geoopt's on the ball and on its dual; scaling and gyration too."""
    space = Stereographic(kappa).double()
    theirs = geoopt.Stereographic(torch.tensor(kappa, dtype=torch.float64))
    x, y, a = (cloud(space, 6, 3, seed=seed) for seed in range(3))
    torch.testing.assert_close(gyroadd(space, x, y), theirs.mobius_add(x, y))
    r = torch.tensor(0.7, dtype=torch.float64)
    torch.testing.assert_close(gyroscale(space, 0.7, x), theirs.mobius_scalar_mul(r, x))
    torch.testing.assert_close(gyration(space, a, y, x), theirs.gyration(a, y, x))


def test_gyrogroup_laws(space):
    """Identity, inverse, left cancellation, the gyrocommutative law, and gyrations that fix the origin."""
    x, y, a = (cloud(space, 6, 4, radius=0.4, seed=seed) for seed in range(3))
    o = space.origin(4, dtype=torch.float64)
    torch.testing.assert_close(gyroadd(space, o.expand_as(x), x), x)
    torch.testing.assert_close(gyroadd(space, gyroinverse(space, x), gyroadd(space, x, y)), y)
    torch.testing.assert_close(gyroadd(space, x, y), gyration(space, x, y, gyroadd(space, y, x)))
    torch.testing.assert_close(gyroscale(space, 2.0, x), gyroadd(space, x, x))
    torch.testing.assert_close(space.dist(o, gyration(space, a, y, x)), space.dist(o, x))


def test_volumes_of_a_constant_curvature_are_those_of_the_metric(space):
    """The closed form against the determinant of the metric in the coordinates of the tangent space."""
    v = 0.8 * normal(5, 4)

    def density(row):
        slopes = torch.autograd.functional.jacobian(space.expmap0, row).mT
        point = space.expmap0(row)
        gram = space.inner(point, slopes[:, None], slopes[None, :]).squeeze(-1)
        return torch.linalg.slogdet(gram)[1] / 2

    want = torch.stack([density(row) for row in v])
    torch.testing.assert_close(log_volume(space, v), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [Lorentz(-1.0), Poincare(-1.0)], ids=["lorentz", "poincare"])
def test_the_density_integrates_to_one(space):
    """On a grid of polar coordinates round the origin of the plane of curvature -1, loc elsewhere."""
    space = space.double()
    loc = space.expmap0(torch.tensor([0.4, -0.2], dtype=torch.float64))
    law = WrappedNormal(space, loc, torch.tensor([0.3, 0.5]))
    r = (torch.arange(600, dtype=torch.float64) + 0.5) * 0.01
    angle = torch.arange(120, dtype=torch.float64) * (2 * math.pi / 120)
    way = torch.stack([angle.cos(), angle.sin()], -1)
    density = law.log_prob(space.expmap0(r[:, None, None] * way)).exp()
    total = (density * r.sinh()[:, None]).sum() * 0.01 * (2 * math.pi / 120)
    assert float(total) == pytest.approx(1.0, abs=1e-4)


def test_on_flat_space_it_is_the_normal_distribution():
    law = WrappedNormal(Euclidean().double(), normal(2, 3), torch.tensor([0.5, 1.0, 2.0]))
    plain = torch.distributions.Normal(law.loc, law.scale)
    torch.manual_seed(0)
    x = law.sample((4,))
    assert (x.shape, law.batch_shape, law.event_shape) == ((4, 2, 3), (2,), (3,))
    torch.testing.assert_close(law.log_prob(x), plain.log_prob(x).sum(-1))


def test_samples_have_the_spread_and_pass_gradients_to_loc_scale_and_kappa(space):
    v, scale = normal(4).mul(0.3).requires_grad_(), torch.full((4,), 0.2).double().requires_grad_()
    law = WrappedNormal(space, space.expmap0(v), scale)
    torch.manual_seed(0)
    x = law.rsample((4000,))
    assert space.sqdist(law.loc, x).mean().item() == pytest.approx(4 * 0.04, rel=0.05)
    torch.autograd.backward([law.log_prob(x.detach()).sum(), space.sqdist(x, law.loc.detach()).sum()])
    assert min(v.grad.abs().min(), scale.grad.abs().min()) > 0


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.inf, [0.1, 0.2]])
def test_a_scale_that_is_not_positive_or_does_not_fit_is_refused(scale):
    with pytest.raises(ManifoldLoraError, match=r"scale of a wrapped normal: got .*; allowed: positive"):
        WrappedNormal(Lorentz(), Lorentz().origin(3), torch.tensor(scale))


def test_a_planted_geodesic_is_found(space):
    start, end = cloud(space, 2, 4)
    t = torch.linspace(-1, 2, 7, dtype=torch.float64)
    y = space.geodesic(start, end, 0.3 * t[:, None])
    found = geodesic_regression(space, t, y)
    assert space.dist(found.at(t), y).max() < 1e-9
    speed = space.norm(found.start, found.velocity)
    torch.testing.assert_close(speed, 0.3 * space.dist(start, end), rtol=1e-7, atol=0)


def test_a_noisy_geodesic_is_where_no_move_of_its_ends_helps():
    """And on flat space it is the line of least squares."""
    t, noise = torch.linspace(0, 1, 12, dtype=torch.float64), 0.05 * normal(12, 3)
    flat = Euclidean().double()
    y = t[:, None] * normal(3, seed=1) + noise
    design = torch.stack([torch.ones_like(t), t], -1)
    want = design @ torch.linalg.lstsq(design, y).solution
    torch.testing.assert_close(geodesic_regression(flat, t, y).at(t), want, rtol=0, atol=1e-8)
    space = Lorentz(-1.0).double()
    y = space.expmap0(y)
    found = geodesic_regression(space, t, y)
    ends = [found.start.clone().requires_grad_(), found.end.clone().requires_grad_()]
    loss = space.sqdist(space.geodesic(*ends, t[:, None]), y).mean()
    for end, slope in zip(ends, torch.autograd.grad(loss, ends), strict=True):
        assert space.norm(end.detach(), space.egrad2rgrad(end.detach(), slope)).item() < 1e-7


@pytest.mark.parametrize("times", [[1.0, 1.0, 1.0], [0.0, 1.0], [0.0, math.nan, 1.0]])
def test_bad_times_are_refused(times):
    with pytest.raises(ManifoldLoraError, match=r"times of a regression: got .*; allowed: 3 finite numbers"):
        geodesic_regression(Euclidean(), torch.tensor(times), torch.randn(3, 2))
