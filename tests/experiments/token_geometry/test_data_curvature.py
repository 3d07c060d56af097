import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.data_curvature import DataCurvature
from manifold_lora.experiments.token_geometry.layer_curvature import kappa_by_module
from manifold_lora.models.load import load_tokenizer


@pytest.mark.parametrize("given", [None, -1.0, {"mode": "learned", "kappa": -1.0}])
def test_other_curvatures_are_left_to_others(given):
    assert DataCurvature.parse(given) is None


def test_the_mapping_of_a_config_is_read():
    assert DataCurvature.parse({"mode": "data"}) == DataCurvature("khrulkov", 32)
    assert DataCurvature.parse({"mode": "data", "rule": "log2", "prompts": 8}) == DataCurvature("log2", 8)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"kappa": -1.0}, "kappa"),
        ({"rule": "log3"}, "khrulkov"),
        ({"prompts": 0}, "from 1"),
        ({"prompts": 1.5}, "from 1"),
    ],
)
def test_bad_mappings_are_refused(extra, said):
    with pytest.raises(ManifoldLoraError, match=said):
        DataCurvature.parse({"mode": "data", **extra})


def test_every_targeted_module_gets_a_curvature_of_its_own(tiny, texts):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), load_tokenizer(str(tiny))
    asked = DataCurvature(prompts=3)
    found = asked.measure(model, tokenizer, texts, ["q_proj", "down_proj"])
    assert sorted({name.rpartition(".")[2] for name in found}) == ["down_proj", "q_proj"]
    assert len(set(found.values())) > 1
    assert found == kappa_by_module(model, tokenizer, texts[:3], targets=["q_proj", "down_proj"])


def test_the_scale_matters_to_log2_alone(tiny, texts):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), load_tokenizer(str(tiny))
    plain, scaled = (
        DataCurvature("log2").measure(model, tokenizer, texts, ["q_proj"], scaling)
        for scaling in ("identity", "learned")
    )
    assert [scaled[name] / plain[name] for name in plain] == pytest.approx([32.0, 32.0], rel=0.01)
    with pytest.raises(ManifoldLoraError, match="unit"):
        DataCurvature("log2").measure(model, tokenizer, texts, ["q_proj"], "unit")


def test_it_parses_without_torch():
    module = "manifold_lora.experiments.token_geometry.data_curvature"
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
