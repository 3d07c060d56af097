"""A geometry is compared with the control that is most like it."""

from types import SimpleNamespace

import pytest

from manifold_lora.experiments.reports.controls import control_of, counterpart


def row(arm, role, gain=None, extras=(), **adapter):
    scaling, alpha = adapter.get("norm_scaling", "learned"), adapter.get("alpha", 1.0)
    facts = {"kappa": -1.0, "extras": extras, "adapter": adapter, "alpha": alpha, "norm_scaling": scaling}
    return SimpleNamespace(arm=arm, role=role, gain=gain, **facts)


DIRECT = row("direct", "geometry", gain=1.1)
IDENTITY = row("identity", "geometry", gain=6.0, norm_scaling="identity")
SPHERE = row("sphere", "geometry", gain=4.0, norm_scaling="identity")
LOW, HIGH = row("low", "gain", gain_from="direct"), row("high", "gain", gain_from="identity")
SHUFFLED = row("shuffled", "norms", norm_scaling="identity")
ROWS = [LOW, HIGH, SHUFFLED, DIRECT, IDENTITY, SPHERE]


@pytest.mark.parametrize(("arm", "control"), [(DIRECT, LOW), (IDENTITY, HIGH), (SPHERE, HIGH)])
def test_the_gain_control_is_its_own_or_that_of_the_nearest_gain(arm, control):
    assert control_of(arm, ROWS, "gain") is control


def test_its_own_control_comes_before_a_nearer_one():
    twin = row("twin", "geometry", gain=1.1)
    matched = row("of twin", "gain", gain_from="twin")
    assert control_of(twin, [*ROWS, twin, matched], "gain") is matched


def test_a_gain_is_that_of_the_whole_step():
    small = row("small", "geometry", gain=6.0, alpha=0.2, norm_scaling="identity")
    assert control_of(small, ROWS, "gain") is LOW


def test_shuffled_norms_of_another_scaling_are_no_control():
    assert control_of(IDENTITY, ROWS, "norms") is SHUFFLED
    assert control_of(DIRECT, ROWS, "norms") is None


def test_a_norm_blind_control_is_of_the_same_geometry_before_the_nearest_curvature():
    controls = [row(f"blind {name}", "blind", manifold=name) for name in ("lorentz", "sphere")]
    controls[1].kappa = 5.0
    for name, control in zip(("lorentz", "sphere"), controls, strict=True):
        assert control_of(row("direct", "geometry", manifold=name), controls, "blind") is control


def test_time_frozen_boost_and_a_bias_are_controls_of_boost_alone():
    rows = [row("frozen", "frozen", transform="frozen_boost"), row("biased", "bias")]
    for role, control in zip(("frozen", "bias"), rows, strict=True):
        assert control_of(row("boost", "geometry", gain=1.0, transform="boost"), rows, role) is control
        assert control_of(row("direct", "geometry", gain=1.0, transform="direct"), rows, role) is None


def test_a_missing_role_has_no_control():
    assert control_of(DIRECT, ROWS, "tangent") is None
    assert control_of(DIRECT, [LOW, DIRECT], "gain") is LOW


def test_controls_stand_at_the_same_further_grid_values():
    two, eight = (("adapter.rank", "2"),), (("adapter.rank", "8"),)
    controls = [row("tangent", "tangent", extras=extras) for extras in (two, eight)]
    assert control_of(row("direct", "geometry", extras=eight), controls, "tangent") is controls[1]


def test_an_arm_without_an_axis_is_met_at_the_others():
    rank, kappa = ("adapter.rank", "2"), ("adapter.curvature", "-1.0")
    lora = [row("lora", "baseline", extras=extras) for extras in ((("adapter.rank", "8"),), (rank,), ())]
    assert counterpart(row("direct", "geometry", extras=(rank, kappa)), lora) is lora[1]
    assert counterpart(row("direct", "geometry", extras=(kappa,)), lora) is lora[2]
    assert counterpart(row("direct", "geometry"), lora[:2]) is None
