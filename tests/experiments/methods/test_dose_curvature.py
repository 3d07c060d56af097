"""``curvature: {mode: dose}`` is read and refused without torch."""

import pytest

from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.experiments.methods.config import adapter_spec, check_adapter
from manifold_lora.experiments.methods.dose_curvature import DoseCurvature
from manifold_lora.experiments.settings.run import AdapterSettings


def test_what_is_not_stated_has_a_default_and_other_curvatures_are_not_its_business():
    assert DoseCurvature.parse({"mode": "dose"}) == DoseCurvature(0.1, "stop")
    assert DoseCurvature.parse({"mode": "dose", "share": 0.3, "out_of_reach": "nearest"}).share == 0.3
    assert DoseCurvature.parse(-1.0) is None
    assert DoseCurvature.parse({"mode": "data"}) is None


@pytest.mark.parametrize(
    "entry",
    [{"share": 0}, {"share": 1}, {"share": True}, {"share": "0.1"}, {"sare": 0.1}, {"out_of_reach": "go"}],
)
def test_bad_entries_are_refused(entry):
    with pytest.raises(ManifoldLoraError):
        check_adapter(AdapterSettings(curvature={"mode": "dose", **entry}))


@pytest.mark.parametrize(
    "parts",
    [
        {"manifold": "euclidean"},
        {"transform": "boost"},
        {"transform": "tangent"},
        {"calibration_rows": 0},
        {"manifold": {"name": "lorentz", "curvature": -1.0}},
        {"manifold_pattern": {"q_proj": "sphere"}},
    ],
    ids=str,
)
def test_parts_that_cannot_have_a_dose_are_refused(parts):
    with pytest.raises((ManifoldLoraError, CurvatureError)):
        check_adapter(AdapterSettings(curvature={"mode": "dose"}, **parts))


@pytest.mark.parametrize("manifold", ["lorentz", "poincare", "sphere"])
def test_curved_geometries_are_taken_with_their_own_sign(manifold):
    spec = adapter_spec(AdapterSettings(manifold=manifold, curvature={"mode": "dose"}))
    assert spec.manifold.curvature.kappa == (1.0 if manifold == "sphere" else -1.0)
