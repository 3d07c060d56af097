"""Arms whose weights live on a manifold: settings, config, role in a report."""

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.config import check_adapter, peft_config
from manifold_lora.experiments.reports.groups import group_of, is_plain_lora, role_of
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.experiments.sweeps.cells import expand

FRAMED = {
    "stiefel": ("stiefel", "stiefel", "full", "retraction"),
    "stiefel-diagonal": ("stiefel", "stiefel", "diagonal", "retraction"),
    "landing": ("stiefel", "stiefel", "full", "landing"),
    "oblique": ("oblique", "oblique", "full", "retraction"),
    "three-factors": ("free", "free", "full", "retraction"),
    "hyplora-stiefel": ("stiefel", "stiefel", "full", "retraction"),
}


@pytest.mark.parametrize("arm", FRAMED)
def test_an_arm_is_the_config_it_names(arm):
    settings = AdapterSettings(**ARMS[arm])
    check_adapter(settings)
    config = peft_config(settings, {})
    assert tuple(config.weight_manifold.values()) == FRAMED[arm]
    assert config.spec().is_linear == (arm != "hyplora-stiefel")


def test_reports_know_what_each_is_there_for():
    roles = {arm: role_of({}, arm) for arm in FRAMED}
    assert roles.pop("three-factors") == "factors"
    assert roles.pop("hyplora-stiefel") == "geometry"
    assert set(roles.values()) == {"weights"}
    assert group_of("weights") == "geometry"
    assert group_of("factors") == "control"
    assert not any(is_plain_lora(ARMS[arm]) for arm in FRAMED)


def test_any_arm_takes_it_as_one_more_axis():
    cells = expand(
        AblationSettings(grid={"arm": ["direct"], "adapter.weight_manifold": [None, "stiefel", "oblique"]}),
        {},
    )
    assert len({cell.id for cell in cells}) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "dora", "weight_manifold": "stiefel"}, "none, or method manifold_lora"),
        (
            {"weight_manifold": "grassman"},
            "weight_manifold.A: got 'grassman'; allowed: free, oblique, stiefel",
        ),
    ],
)
def test_what_cannot_be_is_reported_without_torch(fields, message):
    with pytest.raises(ManifoldLoraError, match=message):
        check_adapter(AdapterSettings(**fields))
