"""Cells: every combination once, ids that follow content, needs before the needy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.sweeps.cells import expand

GRID = {
    "arm": ["gain-matched-lora", "lora", "direct"],
    "train.learning_rate": [1e-3, 1e-2],
    "train.seed": [0, 1],
}


@given(
    arms=st.lists(st.sampled_from(["lora", "dora", "direct", "boost"]), min_size=1, unique=True),
    rates=st.lists(st.floats(1e-5, 1e-1), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_one_cell_for_every_combination(arms, rates, seeds):
    grid = {"arm": arms, "train.learning_rate": rates, "train.seed": seeds}
    settings = AblationSettings(grid=grid, baseline=arms[0])
    cells = expand(settings, {})
    places = {(cell.run.arm, cell.run.train.learning_rate, cell.run.train.seed) for cell in cells}
    assert places == {(arm, rate, seed) for arm in arms for rate in rates for seed in seeds}
    assert len(cells) == len({cell.id for cell in cells}) == len(places)


def test_a_gain_matched_cell_follows_the_cell_it_copies_at_the_same_rate_and_seed():
    cells = expand(AblationSettings(grid=GRID), {"base": "x"})
    order = {cell.id: place for place, cell in enumerate(cells)}
    matched = [cell for cell in cells if cell.run.arm == "gain-matched-lora"]
    assert len(matched) == 4
    for cell in matched:
        source = cells[order[cell.needs]]
        assert order[source.id] < order[cell.id]
        assert source.run.arm == "direct"
        assert source.run.train == cell.run.train


def test_seeds_change_last_and_arms_first():
    places = [(cell.run.train.seed, cell.run.arm) for cell in expand(AblationSettings(grid=GRID), {})]
    assert places == [
        (seed, arm)
        for seed in (0, 1)
        for arm in ("lora", "direct", "lora", "direct", *["gain-matched-lora"] * 2)
    ]


def test_an_arm_without_geometry_is_run_once_for_all_geometries():
    arms, kappas = ["lora", "series", "direct", "gain-matched-lora"], [-0.5, -1.0, -2.0]
    cells = expand(AblationSettings(grid={"arm": arms, "adapter.curvature": kappas}), {})
    curvatures = {
        arm: [cell.point.get("adapter.curvature") for cell in cells if cell.run.arm == arm] for arm in arms
    }
    assert curvatures["lora"] == curvatures["series"] == [None]
    assert curvatures["direct"] == curvatures["gain-matched-lora"] == kappas
    ranks = expand(AblationSettings(grid={"arm": ["lora"], "adapter.rank": [2, 4]}), {})
    assert [cell.point["adapter.rank"] for cell in ranks] == [2, 4]


def test_ids_follow_what_is_computed_and_not_where_it_lies():
    def ids(inputs, **changes):
        return [cell.id for cell in expand(AblationSettings(grid=GRID, **changes), inputs)]

    plain = ids({"base": "x"})
    assert plain == ids({"base": "x"}, output="elsewhere", jobs=1)
    assert plain == ids({"base": "x"}, task={"data": "/another/place"})
    assert plain == ids({"base": "x"}, task={"labels": "/another/place.json"})
    assert not set(plain) & set(ids({"base": "x", "labels": "z"}, task={"labels": "/another/place.json"}))
    assert plain == ids({"base": "x"}, model={"name": "/moved/base"})
    assert not set(plain) & set(ids({"base": "y"}))
    assert not set(plain) & set(ids({"base": "x"}, adapter={"rank": 5}))


def test_results_from_before_a_setting_existed_keep_their_names():
    before = {"max_new_tokens": 24}  # what is derived today was 24
    adapter = {"max_angle": "inf", "calibration_rows": 0}  # and no angle had a limit, no length was measured
    settings = AblationSettings(evaluation=before, adapter=adapter, grid={"arm": ["lora", "direct"]})
    cells = expand(settings, {})
    assert [cell.id for cell in cells] == ["521f3e7b52624ea2", "578b8bc0283716d4"]
    changes = [{}, {"evaluation": {"num_beams": 2}}, {"adapter": {"lora_bias": True}}]
    changes += [{"evaluation": before}, {"evaluation": {"limit": 5}}, {"evaluation": {"nll": False}}]
    ids = {expand(AblationSettings(grid={"arm": ["lora"]}, **change), {})[0].id for change in changes}
    assert len(ids) == 6
    lora, direct = expand(AblationSettings(evaluation=before, grid={"arm": ["lora", "direct"]}), {})
    assert lora.id == cells[0].id  # which reads neither
    assert direct.id != cells[1].id


def test_an_arm_of_the_config_stands_beside_the_built_in_ones():
    settings = AblationSettings(
        arms={"flatter": {"manifold": "lorentz", "curvature": -0.5}}, grid={"arm": ["lora", "flatter"]}
    )
    assert [cell.run.adapter.curvature for cell in expand(settings, {})] == [None, -0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": {"mine": {"manifld": "lorentz"}}, "grid": {"arm": ["mine"]}}, "did you mean 'manifold'"),
        (
            {"arms": {"mine": {"manifold": "sphere", "curvature": -1.0}}, "grid": {"arm": ["mine"]}},
            "positive",
        ),
        (
            {"arms": {"mine": {"manifold": "poincare", "transform": "boost"}}, "grid": {"arm": ["mine"]}},
            "direct",
        ),
        ({"arms": {"mine": 3}, "grid": {"arm": ["mine"]}}, "mapping"),
        ({"grid": {"arm": ["gain-matched-lora", "lora"]}}, "add direct"),
    ],
    ids=["key of an arm", "sign", "boost without time", "not a mapping", "gain source"],
)
def test_arms_that_cannot_be_built_are_refused(settings, message):
    with pytest.raises(ManifoldLoraError, match=message):
        expand(AblationSettings(**settings), {})
