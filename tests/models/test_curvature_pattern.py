"""curvature_pattern: single layers with a kappa of their own, matched like alpha_pattern, kept by a file."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model

from manifold_lora.adapters.spec import HYPLORA
from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError
from manifold_lora.models.geometry_log import effective_kappa
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.patterns import curvature_pattern, layer_spec

PATTERN = {"layers.0.self_attn.q_proj": -0.3, "v_proj": -2.5}
WORD = st.text("ab.*-_1", min_size=1, max_size=4)
PRODUCT = {"name": "product", "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "sphere"}]}


@given(st.dictionaries(WORD, st.floats(-1e3, -1e-3), min_size=1), WORD)
def test_a_full_name_gets_its_own_kappa_even_where_it_ends_another_name(kappas, prefix):
    pattern = curvature_pattern(kappas)
    for name, kappa in kappas.items():
        assert layer_spec(HYPLORA, pattern, name).manifold.curvature.kappa == kappa
        longer = f"{prefix}.{name}"
        if longer not in kappas:
            assert layer_spec(HYPLORA, pattern, longer) == HYPLORA


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_matching_layers_take_their_kappa_and_keep_the_mode(adapted, mode):
    model = adapted(curvature={"mode": mode, "kappa": -0.7}, curvature_pattern=PATTERN)
    found = effective_kappa(model)
    assert len(found) == 4
    for name, kappa in found.items():
        stated = -2.5 if "v_proj" in name else -0.3 if "layers.0" in name else -0.7
        assert kappa == np.float32(stated)
    learned = [name for name, p in model.named_parameters() if "curvature" in name and p.requires_grad]
    assert len(learned) == (4 if mode == "learned" else 0)


def test_the_first_match_wins_as_in_alpha_pattern(adapted):
    keys = ["layers.1.*", "q_proj", "self_attn.v_proj"]
    model = adapted(
        alpha_pattern=dict(zip(keys, [1, 2, 3], strict=True)),
        curvature_pattern=dict(zip(keys, [-1, -2, -3], strict=True)),
    )
    for name, kappa in effective_kappa(model).items():
        layer = model.get_base_model().get_submodule(name.partition("_proj")[0] + "_proj")
        assert kappa == -layer.scaling["default"] * layer.r["default"]


def test_one_kappa_for_every_layer_is_the_same_model_as_stating_it_once(adapted, shake, tokens):
    def logits(**options):
        torch.manual_seed(0)
        return shake(adapted(**options))(tokens).logits

    stated = logits(curvature=-0.3)
    assert torch.equal(logits(curvature_pattern={".*": -0.3}), stated)
    assert not torch.equal(logits(curvature_pattern={"v_proj": -0.3}), stated)


@pytest.mark.parametrize("manifold", ["lorentz", "poincare", "stereographic"])
@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_a_reload_is_bit_identical(adapted, base, shake, tokens, tmp_path, manifold, mode):
    curvature, pattern = {"mode": mode, "kappa": -0.7}, {"q_proj": -1 / 3, "layers.1.self_attn.v_proj": -2.1}
    model = shake(adapted(manifold=manifold, curvature=curvature, curvature_pattern=pattern)).eval()
    folder = save_adapter(model, tmp_path / "adapter")
    # As pairs: peft sorts the keys of the file, and the first match counts.
    saved = json.loads((folder / "adapter_config.json").read_text())["curvature_pattern"]
    assert saved == [[key, kappa] for key, kappa in pattern.items()]
    for again in (PeftModel.from_pretrained(base(), folder), load_adapter(folder)):
        assert effective_kappa(again) == effective_kappa(model)
        assert torch.equal(again(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"curvature_pattern": {"q_proj": 0.5}}, CurvatureError, "'q_proj'.*got 0.5.*negative.*lorentz"),
        ({"manifold": "sphere", "curvature_pattern": {"q_proj": -1.0}}, CurvatureError, "positive"),
        ({"curvature_pattern": {"q_proj": 0.0}}, CurvatureError, "negative"),
        ({"curvature_pattern": {"q_proj": float("nan")}}, CurvatureError, "finite"),
        ({"curvature_pattern": {"q_proj": "-1"}}, CurvatureError, "finite"),
        ({"curvature_pattern": {"q_proj": True}}, CurvatureError, "finite"),
        ({"curvature_pattern": {"q_proj(": -1.0}}, ManifoldLoraError, "regular expressions"),
        ({"curvature_pattern": {0: -1.0}}, ManifoldLoraError, "module names"),
        ({"curvature_pattern": [-1.0]}, ManifoldLoraError, "mapping"),
        ({"manifold": "euclidean", "curvature_pattern": {"q_proj": -1.0}}, ManifoldLoraError, "lorentz"),
        ({"manifold": PRODUCT, "curvature_pattern": {"q_proj": -1.0}}, ManifoldLoraError, "of product"),
    ],
    ids=str,
)
def test_bad_patterns_are_reported_as_asked_got_allowed(options, error, message):
    with pytest.raises(error, match=message):
        ManifoldLoraConfig(**options)


def test_a_pattern_that_names_nothing_is_refused_and_the_model_left_alone(base):
    model = base()
    before = [name for name, _ in model.named_modules()]
    config = ManifoldLoraConfig(target_modules=["q_proj"], curvature_pattern={"v_proj": -2.0})
    with pytest.raises(UnknownNameError, match="curvature_pattern: got 'v_proj'; allowed: q_proj"):
        get_peft_model(model, config)
    assert [name for name, _ in model.named_modules()] == before
