import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.adapters.registry import NORM_SCALINGS, TRANSFORMS
from manifold_lora.adapters.spec import (
    BOOST,
    HYPLORA,
    LORA,
    PRESETS,
    TANGENT,
    AdapterSpec,
    check_rank,
    transforms_of,
)
from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.radial_law import RadialLaw
from manifold_lora.manifolds.registry import MANIFOLDS, curved_names
from manifold_lora.manifolds.spec import ManifoldSpec


def test_a_spec_reads_back_from_plain_data(spec):
    assert AdapterSpec.parse(spec.to_dict()) == spec


@given(st.floats(-10, -1e-3), st.sampled_from(["fixed", "learned"]))
def test_a_stated_curvature_is_kept(kappa, mode):
    spec = AdapterSpec.parse({"manifold": "lorentz", "curvature": {"kappa": kappa, "mode": mode}})
    assert (spec.manifold.curvature.kappa, spec.manifold.curvature.mode) == (kappa, mode)
    assert AdapterSpec.parse(spec.to_dict()) == spec


@pytest.mark.parametrize("mode", ["learned", "released", "unit"])
def test_a_shared_norm_scale_reads_back(mode):
    spec = AdapterSpec.parse({"norm_scaling": {"mode": mode, "shared": True}})
    assert (spec.norm_scaling, spec.norm_scope) == (mode, "model")
    assert AdapterSpec.parse(spec.to_dict()) == spec
    assert spec.with_(manifold="sphere").norm_scope == "model"
    alone = spec.with_(norm_scaling="fixed")
    assert (alone.norm_scaling, alone.norm_scope) == ("fixed", "layer")
    assert AdapterSpec.parse({"norm_scaling": {"mode": mode}}) == AdapterSpec.parse({"norm_scaling": mode})


@pytest.mark.parametrize("curvature", [{"mode": "learned", "shared": True}, {"mode": "token"}], ids=str)
def test_a_curvature_of_several_layers_or_of_a_token_needs_a_geometry_that_has_one(curvature):
    for name in curved_names():
        spec = AdapterSpec.parse({"manifold": name, "curvature": curvature})
        assert spec.manifold.curvature.scope == ("token" if curvature["mode"] == "token" else "model")
        assert AdapterSpec.parse(spec.to_dict()) == spec
    with pytest.raises(CurvatureError):
        AdapterSpec.parse({"manifold": "euclidean", "curvature": curvature})


def test_presets_are_tuples_of_parts():
    def parts(spec):
        return spec.manifold.name, spec.transform, spec.norm_scaling

    assert parts(LORA) == ("euclidean", "direct", "identity")
    assert parts(TANGENT) == ("lorentz", "tangent", "learned")
    assert parts(HYPLORA) == ("lorentz", "direct", "learned")
    assert parts(BOOST) == ("lorentz", "boost", "learned")
    assert all(AdapterSpec.parse(name) is spec for name, spec in PRESETS.items())


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ({"transform": "dirct"}, "'direct'"),
        ({"norm_scaling": "learnt"}, "'learned'"),
        ({"manifold": "lorenz"}, "'lorentz'"),
        ({"manifolds": "lorentz"}, "'manifold'"),
        ("hyplor", "'hyplora'"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(value, nearest):
    with pytest.raises(UnknownNameError, match=f"did you mean {nearest}"):
        AdapterSpec.parse(value)


def test_every_combination_is_either_built_or_refused_by_name(geometry):
    for transform in TRANSFORMS:
        if transform in transforms_of(geometry):
            assert AdapterSpec(geometry, transform).transform == transform
            continue
        with pytest.raises(ManifoldLoraError) as caught:
            AdapterSpec(geometry, transform)
        assert caught.value.allowed == ", ".join(transforms_of(geometry))
        assert geometry.name in str(caught.value)


def test_boost_on_the_ball_names_what_the_ball_has():
    with pytest.raises(
        ManifoldLoraError,
        match="transform on poincare: got 'boost'; allowed: direct, norm_blind, power, tangent",
    ):
        AdapterSpec(ManifoldSpec.parse("poincare"), "boost")


@pytest.mark.parametrize("rank", [0, -1, 2.0, True, "8", None])
def test_a_rank_is_a_whole_number_of_at_least_one(rank):
    with pytest.raises(ManifoldLoraError, match="rank"):
        check_rank(rank)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"manifold": "lorentz", "curvature": 1.0}, CurvatureError),
        ({"manifold": {"name": "lorentz", "curvature": -1.0}, "curvature": -2.0}, ManifoldLoraError),
        ({"manifold": 3}, ManifoldLoraError),
        (7, ManifoldLoraError),
        ({"transform": ["direct"]}, ManifoldLoraError),
        ({"norm_scaling": ["learned"]}, ManifoldLoraError),
        ({"norm_scaling": None}, ManifoldLoraError),
        ({"norm_scaling": {"shared": True}}, ManifoldLoraError),
        ({"norm_scaling": {"mode": "learnt"}}, UnknownNameError),
        ({"norm_scaling": {"mode": "learned", "share": True}}, ManifoldLoraError),
        ({"norm_scaling": {"mode": "learned", "shared": 1}}, ManifoldLoraError),
        ({"norm_scaling": {"mode": "fixed", "shared": True}}, ManifoldLoraError),
        ({"norm_scaling": {"mode": "identity", "shared": True}}, ManifoldLoraError),
    ],
)
def test_what_contradicts_itself_is_refused(value, error):
    with pytest.raises(error):
        AdapterSpec.parse(value)


def test_linear_means_no_curvature_in_effect_and_no_norm_divided_out(spec):
    flat = spec.transform == "tangent" or (spec.manifold.name == "euclidean" and spec.transform != "power")
    if spec.manifold.name != "product":
        assert spec.is_linear == (flat and spec.norm_scaling != "unit")
    elif spec.transform != "tangent":
        assert not spec.is_linear


def test_registry_facts_are_those_of_the_classes():
    for name in TRANSFORMS:
        part, facts = TRANSFORMS[name], TRANSFORMS.metadata(name)
        assert (part.linear, part.time) == (facts["linear"], facts["time"]), name
        assert part.radial == facts.get("radial", False), name
    for name in NORM_SCALINGS:
        assert NORM_SCALINGS[name].linear == NORM_SCALINGS.metadata(name)["linear"], name
        assert NORM_SCALINGS[name].shareable == NORM_SCALINGS.metadata(name)["shareable"], name
    for name in MANIFOLDS:
        law, linear = getattr(MANIFOLDS[name], "radial_law", None), MANIFOLDS.metadata(name)["linear"]
        assert (isinstance(law, RadialLaw) and law.linear) == linear, name


def test_a_bad_config_needs_no_torch():
    code = (
        "import sys; from manifold_lora.adapters import HYPLORA, AdapterSpec, check_rank;"
        "from manifold_lora.adapters.registry import TRANSFORMS;"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("kappa", [-1e40, -1e300, -1e-31, -(10**40)])
@pytest.mark.parametrize("place", ["curvature", "part"])
def test_a_curvature_whose_radius_is_no_float32_is_refused(kappa: float, place: str) -> None:
    """Float32 would make it infinite or 0, and the update NaN."""
    parts = [{"share": 1.0, "name": "lorentz", "curvature": kappa}]
    given = (
        {"curvature": kappa} if place == "curvature" else {"manifold": {"name": "product", "parts": parts}}
    )
    with pytest.raises(CurvatureError, match="kappa of lorentz"):
        AdapterSpec.parse(given)
