"""method: peft.NAME: options checked against peft's config class, the run's seed and targets, one table."""

import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.methods.config import check_adapter, peft_config
from manifold_lora.experiments.reports.groups import role_of
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.methods import METHODS, has_geometry, needs_gain
from manifold_lora.experiments.settings.run import AdapterSettings, RunSettings
from manifold_lora.experiments.sweeps.grid import Grid

TARGETS = ("q_proj", "v_proj")


def arm(method: str, **options: object) -> AdapterSettings:
    return AdapterSettings(method=method, options=options, target_modules=TARGETS)


def test_a_config_has_the_options_the_targets_and_the_seed_of_the_run() -> None:
    config = peft_config(arm("peft.vera", r=16, d_initial=0.2), {}, seed=7)
    assert (type(config).__name__, config.r, config.d_initial) == ("VeraConfig", 16, 0.2)
    assert set(config.target_modules) == set(TARGETS)
    assert config.projection_prng_key == 7
    assert str(config.task_type) == "CAUSAL_LM"
    assert peft_config(arm("peft.vera", projection_prng_key=3), {}, seed=7).projection_prng_key == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (arm("peft.oftt"), "did you mean 'peft.oft'"),
        (arm("peft.xlora"), "trained adapters"),
        (arm("peft.adalora"), "use method adalora"),
        (arm("peft.manifold_lora"), "use method manifold_lora"),
        (arm("peft.vera", rr=3), "did you mean 'r'"),
        (arm("peft.vera", r="four"), "adapter.options.r: got 'four'"),
        (arm("peft.vera", r=True), "no truth value"),
        (arm("peft.vera", task_type="SEQ_CLS"), "adapter.options"),
        (arm("peft.oft", r=4, oft_block_size=4), "adapter.options of peft.oft"),
        (AdapterSettings(method="peft.vera", options=[1]), "a mapping"),
        (AdapterSettings(method="lora", options={"r": 3}), "none with lora"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: AdapterSettings, message: str) -> None:
    with pytest.raises(ManifoldLoraError) as caught:
        check_adapter(settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_table_answers_every_question() -> None:
    """Each method can be built, has a role, and keeps or loses the axes of a geometry in a grid."""
    assert {name for name in METHODS if has_geometry(name)} == {"manifold_lora"}
    assert {name for name in METHODS if needs_gain(name)} == {"gain_matched_lora"}
    for name in [*METHODS, "peft.oft"]:
        settings = AdapterSettings(method=name)
        assert peft_config(settings, {}, steps=10).peft_type
        role = role_of({"adapter": {"method": name}}, "mine")
        assert role == {"manifold_lora": "geometry", "gain_matched_lora": "gain"}.get(name, "baseline")
    with pytest.raises(ManifoldLoraError):
        role_of({"adapter": {"method": "loar"}}, "mine")


def test_a_method_of_peft_is_one_cell_on_a_grid_of_curvatures() -> None:
    arms = {"oft": {"method": "peft.oft", "options": {"oft_block_size": 4}}}
    axes = {"arm": ["oft"], "adapter.curvature": [-1.0, -2.0]}
    grid = Grid(AblationSettings(arms=arms, baseline="oft", grid=axes))
    assert len({cell_id(run, {}) for _, run in grid.runs}) == 1
    other = RunSettings(adapter=arm("peft.oft", oft_block_size=8))
    assert cell_id(other, {}) != cell_id(RunSettings(adapter=arm("peft.oft", oft_block_size=4)), {})


WORKING = {
    "oft": {"oft_block_size": 4},
    "hra": {"r": 2},
    "delora": {"r": 2},
    "miss": {"r": 2},
    "vera": {"r": 4},
    "ia3": {"feedforward_modules": []},
}


@pytest.mark.parametrize("name", WORKING)
def test_train_and_evaluate(name: str, base: str, tmp_path: Path) -> None:
    """Saved, loaded again by our loader, the answers are the same."""
    flags = {
        "--model": base,
        "--output": str(tmp_path / "run"),
        "--adapter.method": f"peft.{name}",
        "--adapter.options": json.dumps(WORKING[name]),
        "--adapter.target_modules": "[q_proj, v_proj]",
        "--task.limit": "6",
        "--train.steps": "2",
        "--evaluation.max-new-tokens": "2",
    }
    assert main(["train", *(word for pair in flags.items() for word in pair)]) == 0
    first = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert first["cost"]["trainable_parameters"] > 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    again = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    assert [item["output"] for item in again["items"]] == [item["output"] for item in first["items"]]
