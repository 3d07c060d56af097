"""Curvature: stated value = effective value, modes, dtypes, sign; and its form as data."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.manifolds import (
    Curvature,
    CurvatureError,
    Euclidean,
    Lorentz,
    ManifoldLoraError,
    ManifoldSpec,
    Poincare,
    Product,
    Sphere,
    Stereographic,
    build_manifold,
)


@given(st.floats(1e-6, 1e6), st.sampled_from([-1.0, 1.0]), st.sampled_from(["fixed", "learned", "free"]))
def test_stated_is_effective(size: float, sign: float, mode: str) -> None:
    curvature = Curvature(sign * size, mode)
    assert curvature.at(torch.float64).item() == pytest.approx(sign * size, rel=1e-15)
    assert curvature.kappa.shape == (1,)
    assert curvature.kappa.item() == pytest.approx(sign * size, rel=1e-7)


def test_learned_keeps_its_sign_and_free_crosses_zero() -> None:
    learned, free = Curvature(-0.5, "learned"), Curvature(0.1, "free")
    for curvature, step in ((learned, 3.0), (free, 0.3)):
        with torch.no_grad():
            curvature.raw -= step
    assert learned.kappa.item() == pytest.approx(-0.5 * math.exp(-3.0))
    assert free.kappa.item() == pytest.approx(-0.2)
    assert len(list(Curvature(-1.0).parameters())) == 0


@pytest.mark.parametrize("mode", ["fixed", "learned", "free"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_float32_when_the_model_is_cast(mode: str, dtype: torch.dtype) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Stereographic(Curvature(-0.3, mode))).to(dtype)
    assert model[0].weight.dtype == dtype
    assert model[1].kappa.dtype == torch.float32
    assert model[1].kappa.item() == pytest.approx(-0.3, rel=1e-7)
    assert model.double()[1].kappa.item() == pytest.approx(-0.3, rel=1e-15)


def test_gradient_passes_through_zero() -> None:
    m = Stereographic(Curvature(0.0, "free")).double()
    x, y = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.3
    (slope,) = torch.autograd.grad(m.dist(x, y).sum(), m.curvature.raw)
    h = 1e-5
    want = (Stereographic(h).dist(x, y).sum() - Stereographic(-h).dist(x, y).sum()) / (2 * h)
    assert slope.item() == pytest.approx(want.item(), rel=1e-8)


@pytest.mark.parametrize(
    ("make", "kappa"),
    [
        (Lorentz, 1.0),
        (Lorentz, 0.0),
        (Poincare, 0.5),
        (Sphere, -1.0),
        (Euclidean, 1.0),
        (Sphere, float("nan")),
    ],
)
def test_wrong_sign_is_refused(make: type, kappa: float) -> None:
    with pytest.raises(CurvatureError, match="kappa"):
        make(kappa)


def test_modes_are_checked() -> None:
    with pytest.raises(CurvatureError, match="keeps the sign"):
        Lorentz(Curvature(-1.0, "free"))
    with pytest.raises(CurvatureError, match="mode 'free' may start at 0"):
        Curvature(0.0, "learned")
    with pytest.raises(ManifoldLoraError, match="did you mean 'learned'"):
        Curvature(-1.0, "leaned")  # type: ignore[arg-type]


SPECS = [
    "sphere",
    {"name": "lorentz", "curvature": {"mode": "learned", "kappa": -2.0}},
    {"name": "stereographic", "curvature": {"mode": "free", "kappa": 0.0}},
    {
        "name": "product",
        "parts": [{"share": 2, "name": "lorentz", "curvature": -0.5}, {"share": 1, "name": "sphere"}],
    },
]


@pytest.mark.parametrize("given_spec", SPECS, ids=str)
def test_spec_round_trip_and_build(given_spec: object) -> None:
    spec = ManifoldSpec.parse(given_spec)
    assert ManifoldSpec.parse(spec.to_dict()) == spec
    built = build_manifold(spec)
    assert built.expmap0(torch.zeros(5)).shape == (5 + built.extra_dims,)


@pytest.mark.parametrize(
    ("given_spec", "message"),
    [
        ("lorenz", "did you mean 'lorentz'"),
        ({"name": "lorentz", "curvature": 1.0}, "kappa of lorentz: got 1.0; allowed: a negative number"),
        ({"name": "lorentz", "curvatur": 1.0}, "did you mean 'curvature'"),
        ({"name": "lorentz", "curvature": {"mode": "free"}}, "fixed, learned"),
        ({"name": "sphere", "curvature": True}, "a finite number"),
        ({"name": "product"}, "0 parts"),
        ({"name": "product", "parts": [{"share": 0, "name": "sphere"}]}, "share of a part: got 0"),
        ({"name": "product", "parts": ["sphere"]}, "a mapping with share and name"),
        (7, "a name, or a mapping with a name"),
    ],
)
def test_bad_spec(given_spec: object, message: str) -> None:
    with pytest.raises(ManifoldLoraError) as caught:
        ManifoldSpec.parse(given_spec)
    assert message in str(caught.value)


def test_specs_need_no_torch() -> None:
    code = "import sys; from manifold_lora.manifolds import ManifoldSpec, MANIFOLDS, load_plugins; "
    code += "ManifoldSpec.parse('lorentz'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.integers(1, 40), st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4))
def test_product_sizes_sum_to_n(n: int, shares: list[float]) -> None:
    sizes = Product([(share, Euclidean()) for share in shares]).sizes(n)
    assert sum(sizes) == n
    assert min(sizes) >= 0
