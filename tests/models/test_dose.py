"""Dose: what no constant gain reproduces, and the curvature at which a module has a stated one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model

from manifold_lora import ManifoldLoraConfig, calibrate
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.models.dose import dose, gain_at_start, kappa_of_dose
from manifold_lora.models.geometry_log import effective_kappa
from manifold_lora.models.module_geometry import measure_geometry

positive = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40)


def lengths(sigma=0.6, count=400, seed=0):
    """Log-normal lengths of median 1, as those of a real model's tokens."""
    draws = np.random.default_rng(seed).standard_normal(count)
    return torch.from_numpy(np.exp(sigma * (draws - np.median(draws))))


def update_of(manifold="lorentz", **parts):
    update = ManifoldUpdate.from_spec({"manifold": manifold, **parts}, 16, 16, 4)
    update.calibrate(1.0)
    return update


@given(positive)
def test_it_is_what_the_best_constant_gain_leaves_of_the_update(gains):
    c = np.array(gains)
    best = c.mean()
    left = math.sqrt(((c - best) ** 2).mean() / (c**2).mean())
    other = math.sqrt(max(0.0, 1 - c.mean() ** 2 / (c**2).mean()))
    assert float(dose(torch.tensor(gains).double())) == pytest.approx(left, rel=1e-4, abs=1e-6)
    assert left == pytest.approx(other, abs=1e-6)


@given(positive, st.floats(1e-250, 1e250))
def test_it_does_not_depend_on_the_size_of_the_gains(gains, factor):
    c = torch.tensor(gains, dtype=torch.float64)
    assert float(dose(c * factor)) == pytest.approx(float(dose(c)), rel=1e-9, abs=1e-12)


@given(st.floats(1e-300, 1e300), st.integers(1, 9))
def test_equal_gains_have_dose_zero(c, count):
    assert float(dose(torch.full((count,), c, dtype=torch.float64))) == pytest.approx(0.0, abs=1e-15)


def test_a_gain_that_is_not_finite_is_not_hidden():
    assert math.isnan(float(dose(torch.tensor([1.0, math.inf]))))
    assert math.isnan(float(dose(torch.tensor([1.0, math.nan]))))


@pytest.mark.parametrize("control", ["norm_blind", "power"])
def test_a_control_takes_the_curvature_of_the_direct_it_is_a_control_of(control):
    norms = lengths()
    direct, other = (update_of(transform=name) for name in ("direct", control))
    found = [kappa_of_dose("layer", update, norms, 0.15) for update in (direct, other)]
    assert found[0] == found[1]
    assert float(dose(gain_at_start(update_of(transform="norm_blind"), norms))) == pytest.approx(
        0.0, abs=1e-12
    )


@pytest.mark.parametrize("angle", [0.5, 1.0, 2.0])
def test_near_equal_lengths_have_the_dose_of_the_formula(angle):
    """CV(n) (a coth a - 1), the slope of log(sinh(a)/a) times the spread of the lengths."""
    update, few = update_of(curvature=-(angle**2)), 1 + 1e-3 * (lengths() - lengths().median())
    spread = float(few.std(correction=0) / few.mean())
    expected = spread * (angle / math.tanh(angle) - 1)
    assert float(dose(gain_at_start(update, few))) == pytest.approx(expected, rel=5e-3)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["lorentz", "poincare", "sphere"]),
    st.floats(0.01, 0.1),  # which all three reach from sigma 0.4 on
    st.floats(0.4, 0.9),
    st.integers(0, 99),
)
def test_the_kappa_found_has_the_dose_asked_for_and_no_flatter_one_has_more(manifold, share, sigma, seed):
    norms = lengths(sigma, seed=seed)
    update = update_of(manifold)
    kappa = kappa_of_dose("here", update, norms, share).kappa
    assert update.manifold.curvature.number() == (1.0 if manifold == "sphere" else -1.0)  # as it was

    def dose_at(kappa):
        return float(dose(gain_at_start(update_of(manifold, curvature=kappa), norms)))

    assert dose_at(kappa) == pytest.approx(share, rel=1e-4)
    assert all(dose_at(kappa * factor) < share for factor in (0.9, 0.5, 0.1, 0.01))


def test_a_dose_out_of_reach_names_the_module_and_the_largest_there_is():
    norms = lengths(0.05)
    with pytest.raises(CurvatureError, match=r"dose of here: got 0.4; allowed: at most 0\.\d+"):
        kappa_of_dose("here", update_of(), norms, 0.4)
    nearest = kappa_of_dose("here", update_of(), norms, 0.4, "nearest")
    reached = [
        float(dose(gain_at_start(update_of(curvature=-float(k)), norms)))
        for k in np.geomspace(1e-3, 1e2, 300)
    ]
    assert nearest.dose == pytest.approx(max(reached), rel=0.02)
    assert float(dose(gain_at_start(update_of(curvature=nearest.kappa), norms))) == pytest.approx(
        nearest.dose
    )


def test_a_dose_on_a_narrow_peak_is_found():
    """Tokens of nearly one length reach the angle limit together: nothing but the peak has this dose."""
    norms = lengths(0.02)
    largest = kappa_of_dose("here", update_of(), norms, 0.9, "nearest").dose
    found = kappa_of_dose("here", update_of(), norms, 0.995 * largest)
    assert float(dose(gain_at_start(update_of(curvature=found.kappa), norms))) == pytest.approx(
        found.dose, rel=1e-4
    )


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan, True, "much"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ManifoldLoraError, match="above 0 and below 1"):
        kappa_of_dose("here", update_of(), lengths(), share)


@pytest.mark.parametrize(
    "parts", [{"transform": "boost"}, {"transform": "tangent"}, {"manifold": "euclidean"}], ids=str
)
def test_geometries_without_one_curvature_to_choose_are_refused(parts):
    with pytest.raises(ManifoldLoraError, match="direct on a geometry of one curvature"):
        kappa_of_dose("here", update_of(**parts), lengths(), 0.1)


ROWS = torch.randint(4, 64, (8, 24), generator=torch.Generator().manual_seed(0))
ROWS[:, 0] = 1


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_calibrate_gives_every_module_its_dose_and_saves_it(tiny_with_sink, tmp_path, mode):
    config = ManifoldLoraConfig(
        r=4, target_modules=["q_proj", "up_proj", "down_proj"], curvature={"mode": mode, "kappa": -1.0}
    )
    model = get_peft_model(tiny_with_sink(), config)
    found = calibrate(model, [{"input_ids": ROWS}], dose=0.02)
    assert {round(one.dose, 6) for one in found.values()} == {0.02}
    kappas = effective_kappa(model)
    assert len(set(kappas.values())) == len(kappas) == 9
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_with_sink(), tmp_path)
    assert effective_kappa(loaded) == kappas
    again = measure_geometry(loaded, [{"input_ids": ROWS}])
    assert {round(one.dose, 6) for one in again.values()} == {0.02}


def test_a_dose_that_one_module_does_not_reach_changes_none(tiny_with_sink):
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(tiny_with_sink(), config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CurvatureError, match=r"dose of model\.layers\.\d.*at most"):
        calibrate(model, [{"input_ids": ROWS}], dose=0.9)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    found = calibrate(model, [{"input_ids": ROWS}], dose=0.9, out_of_reach="nearest")
    assert all(0 < one.dose < 0.9 for one in found.values())


def test_a_shared_curvature_cannot_have_a_dose_in_each_layer(tiny_with_sink):
    config = ManifoldLoraConfig(
        r=4, target_modules=["q_proj"], curvature={"mode": "learned", "shared": True, "kappa": -1.0}
    )
    with pytest.raises(ManifoldLoraError, match="not shared"):
        calibrate(get_peft_model(tiny_with_sink(), config), [{"input_ids": ROWS}], dose=0.1)


def test_saturation_eats_the_dose_of_a_grown_b():
    """What training does, by MATH.md: as |B A x| nears |x| little of the dose at the start is left."""
    update, norms = update_of(curvature=-1.0), lengths()
    x = norms[:, None] * torch.nn.functional.normalize(torch.ones(1, 16, dtype=torch.float64))
    A, B = torch.ones(4, 16).double() / 8, torch.ones(16, 4).double()
    start, small, grown = (float(dose(update.gain(x, A, size * B).flatten())) for size in (0.0, 1e-6, 0.1))
    assert small == pytest.approx(start, rel=1e-3)
    assert grown < 0.6 * start
