"""Klein's model, the half-space and complex hyperbolic space against what each of them is."""

import pytest
import torch
from hyperbolic_oracles import ComplexBall, Straight, Upper
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from manifold_lora.errors import CurvatureError, PointError
from manifold_lora.experiments.bench.numerics.oracle import condition, exact, relative_error
from manifold_lora.manifolds import ComplexHyperbolic, HalfSpace, Klein, Lorentz, Poincare

KAPPA = -1.3
MODELS = {
    "klein": (Klein, Straight),
    "half_space": (HalfSpace, Upper),
    "complex": (ComplexHyperbolic, ComplexBall),
}


@settings(max_examples=12)
@given(
    name=st.sampled_from(sorted(MODELS)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    length=st.sampled_from([1e-6, 0.3, 1.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_every_operation_is_that_of_the_oracle(name, dtype, length, seed):
    """Rounded inputs, 60 digits: the hyperboloid seen through an isometry, or C^(1, m) itself.

    float32 to what the ball is held to, float64 to 8 eps times the condition number of the operation there.
    """
    made, oracle = MODELS[name]
    space, truth = made(KAPPA).to(dtype), oracle(KAPPA)
    mp.dps = 60
    generator = torch.Generator().manual_seed(seed)
    v, w, z = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    v, w, z = (t / t.norm() * length for t in (v, w, z))
    v, x, y = v.to(dtype), space.expmap0(v).to(dtype), space.expmap0(w).to(dtype)
    u = (z * length / space.norm(x, z.to(dtype)).double()).to(dtype)
    for operation, arguments in {
        "expmap0": (v,), "logmap0": (x,), "dist": (x, y), "logmap": (x, y),
        "expmap": (x, u), "transp": (x, y, u),
    }.items():  # fmt: skip
        act, given = getattr(truth, operation), [exact(t.double().tolist()) for t in arguments]
        want = act(*given)
        error = relative_error(getattr(space, operation)(*arguments).double().tolist(), want)
        allowed = 2e-7 if dtype == torch.float32 else 8 * 2.0**-52 * condition(act, given, want)
        assert error <= allowed, operation


@pytest.mark.parametrize("made", [Klein, HalfSpace])
def test_distances_are_those_of_the_hyperboloid(made):
    space, twin = made(KAPPA).double(), Lorentz(KAPPA).double()
    v, w = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        space.dist(space.expmap0(v), space.expmap0(w)), twin.dist(twin.expmap0(v), twin.expmap0(w))
    )


def test_geodesics_of_klein_are_straight():
    space = Klein(KAPPA)
    x, y = space.random(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = space.geodesic(x, y, 0.3) - x
    cosine = torch.nn.functional.cosine_similarity(along, y - x, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(5, dtype=torch.float64))


def test_shifts_and_scalings_move_the_half_space():
    """(y, h) -> c (y + a, h) changes no distance, and close points far from the origin keep their digits."""
    space = HalfSpace(KAPPA)
    x, y = space.random(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.tensor([7.0, -3.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(space.dist(2.5 * (x + shift), 2.5 * (y + shift)), space.dist(x, y))
    far = torch.tensor([0.0, 0.0, 1e-12], dtype=torch.float64)
    near = far * (1 + 1e-9)
    torch.testing.assert_close(space.dist(far, near), torch.tensor([1e-9], dtype=torch.float64) / 1.3**0.5)


def test_complex_lines_are_discs_and_real_planes_a_quarter_as_curved():
    space = ComplexHyperbolic(KAPPA).double()
    assert space.curvature_range == (KAPPA, KAPPA / 4)
    a, b = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def far_apart(one, chart):
        return one.dist(one.expmap0(chart(a)), one.expmap0(chart(b)))

    def line(v):
        return torch.cat([v, 0 * v], -1)

    def real(v):
        return torch.stack([v, 0 * v], -1).flatten(-2)

    torch.testing.assert_close(far_apart(space, line), far_apart(Poincare(KAPPA).double(), lambda v: v))
    torch.testing.assert_close(far_apart(space, real), far_apart(Lorentz(KAPPA / 4).double(), lambda v: v))


def test_an_odd_dimension_and_a_positive_curvature_are_refused():
    for act in (lambda m: m.random(3), lambda m: m.width(5), lambda m: m.check_point(torch.zeros(3))):
        with pytest.raises(PointError, match=r"dimension of complex hyperbolic space: .* an even number"):
            act(ComplexHyperbolic())
    for made in (Klein, HalfSpace, ComplexHyperbolic):
        with pytest.raises(CurvatureError, match="a negative number"):
            made(1.0)
    with pytest.raises(PointError, match="off the manifold"):
        HalfSpace().check_point(torch.tensor([0.3, -0.2]))
