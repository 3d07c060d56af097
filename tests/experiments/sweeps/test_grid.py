"""A grid: combinations that cannot exist are left out and reported, faults are refused."""

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.sweeps.grid import Grid, baseline_of

GEOMETRIES = {
    "adapter.manifold": ["euclidean", "lorentz", "sphere"],
    "adapter.transform": ["tangent", "direct", "boost"],
}


def grid_of(axes, **changes):
    return Grid(AblationSettings(grid=axes, **changes))


def values(points, *keys):
    return {tuple(point.get(f"adapter.{key}") for key in keys) for point in points}


def test_a_grid_may_span_geometries_that_do_not_all_have_a_transform():
    grid = grid_of(GEOMETRIES)
    assert len(grid.runs) == 8
    assert values([refused.point for refused in grid.left_out], "manifold", "transform") == {
        ("euclidean", "boost")
    }
    message = grid.summary()
    assert "1 of 9 combinations" in message
    assert "manifold euclidean, transform boost" in message
    assert "time coordinate" in message
    assert "\n" not in message


def test_curvatures_meet_the_geometries_of_their_sign():
    axes = {"adapter.manifold": ["lorentz", "sphere", "stereographic"], "adapter.curvature": [-1.0, 1.0]}
    grid = grid_of({"arm": ["lora", "direct"], **axes}, arms={"direct": {"method": "manifold_lora"}})
    made = values((point for point, run in grid.runs if run.arm == "direct"), "manifold", "curvature")
    assert made == {("lorentz", -1.0), ("sphere", 1.0), ("stereographic", -1.0), ("stereographic", 1.0)}
    assert grid.summary().startswith("left out, since they cannot exist: 2 of 12")


def test_a_gain_matched_arm_goes_where_its_source_does():
    grid = grid_of({"arm": ["lora", "gain-matched-lora", "direct"], **GEOMETRIES})
    assert [refused.point["arm"] for refused in grid.left_out] == ["gain-matched-lora", "direct"]


def test_nothing_is_reported_of_a_grid_that_is_whole():
    assert grid_of({"arm": ["lora", "direct"]}).summary() == ""


def test_few_of_many_are_shown():
    kappas = [float(kappa) for kappa in range(1, 6)]
    grid = grid_of({"adapter.manifold": ["lorentz", "sphere"], "adapter.curvature": [-1.0, *kappas]})
    assert len(grid.left_out) == 6
    assert grid.summary().count("manifold") == 3
    assert grid.summary().endswith("; ...")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"arm": ["lora", "direct"], "adapter.transform": ["direct", "bost"]}, "did you mean 'boost'"),
        ({"adapter.manifold": ["lorentz", "lorenz"]}, "did you mean 'lorentz'"),
        ({"adapter.manifold": ["lorentz"], "adapter.curvature": [-1.0, 1.0]}, "a negative number"),
        ({"adapter.manifold": ["euclidean"], "adapter.transform": ["boost"]}, "transform on euclidean"),
        ({"train.steps": [10, "ten"], **GEOMETRIES}, "'ten'"),
    ],
    ids=["name that lora does not read", "name", "sign of the only geometry", "nothing is left", "type"],
)
def test_a_value_that_makes_no_run_is_a_fault(axes, message):
    with pytest.raises(ManifoldLoraError, match=message):
        grid_of(axes)


def test_the_baseline_is_an_arm_of_the_grid():
    assert baseline_of(AblationSettings(grid={"arm": ["lora", "direct"]})) == "lora"
    assert baseline_of(AblationSettings(grid={"arm": ["lora", "direct"]}, baseline="direct")) == "direct"
    with pytest.raises(ManifoldLoraError, match=r"add lora to grid\.arm"):
        grid_of({"arm": ["direct", "boost"]})


def test_where_all_cells_are_of_one_arm_it_is_the_baseline():
    kappas = {"adapter.curvature": [-1.0, -2.0]}
    assert baseline_of(AblationSettings(arm="direct", grid=kappas)) == "direct"
    assert baseline_of(AblationSettings(grid={"arm": ["boost"], **kappas})) == "boost"
