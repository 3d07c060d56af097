import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.token_geometry.activations import adapted_modules, hidden_states, module_inputs
from manifold_lora.experiments.token_geometry.delta.gromov import Hyperbolicity
from manifold_lora.experiments.token_geometry.layer_curvature import (
    block_number,
    kappa_by_layer,
    kappa_by_module,
)
from manifold_lora.experiments.token_geometry.suggestion import RULES, SOURCES, suggest_kappa
from manifold_lora.models.load import load_tokenizer


@pytest.fixture(scope="module")
def model(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny)


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return load_tokenizer(str(tiny))


def measured(delta, diameter):
    return Hyperbolicity(delta, diameter, 10, "all", (0, 1, 2, 3))


def test_hidden_states_are_those_of_the_model_text_by_text(model, tokenizer, texts):
    found = list(hidden_states(model, tokenizer, texts))
    assert [list(one) for one in found] == [["layer 0", "layer 1", "layer 2"]] * len(texts)
    for text, one in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        # The first token, a language model's "attention sink", is left out.
        assert all(np.array_equal(one[f"layer {i}"], states[i][0, 1:].numpy()) for i in range(3))
    whole = next(hidden_states(model, tokenizer, texts, first_token=True))["layer 1"]
    assert np.array_equal(whole[1:], found[0]["layer 1"])


def test_layers_are_chosen_and_counted_from_the_end(model, tokenizer, texts):
    assert list(next(hidden_states(model, tokenizer, texts, [-1, 0]))) == ["layer 2", "layer 0"]
    with pytest.raises(ManifoldLoraError, match="0 to 2"):
        next(hidden_states(model, tokenizer, texts, [3]))


def test_listening_leaves_no_hook_and_no_mode_behind(model, tokenizer, texts):
    model.train()
    names = adapted_modules(model, ["q_proj"])
    assert names == ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]
    heard = list(module_inputs(model, tokenizer, texts, names))
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert heard[0][names[0]].shape == (len(tokenizer(texts[0])["input_ids"]) - 1, 32)
    model.eval()


def test_a_first_token_of_any_length_changes_no_curvature(model, tokenizer, texts):
    plain = kappa_by_module(model, tokenizer, texts, targets=["q_proj"])

    def sink(_, arguments):
        (x,) = arguments
        return (torch.cat([300.0 * x[:, :1], x[:, 1:]], dim=1),)

    handle = model.model.layers[0].self_attn.q_proj.register_forward_pre_hook(sink)
    try:
        found = kappa_by_module(model, tokenizer, texts, targets=["q_proj"])
    finally:
        handle.remove()
    name = "model.layers.0.self_attn.q_proj"
    assert found[name] == pytest.approx(plain[name], rel=1e-6)


def test_a_modules_input_is_what_its_layer_feeds_it(model, tokenizer, texts):
    name = "model.layers.0.input_layernorm"
    heard = next(module_inputs(model, tokenizer, texts, [name]))[name]
    assert np.array_equal(heard, next(hidden_states(model, tokenizer, texts))["layer 0"])


def test_unknown_modules_and_models_without_adapters_are_refused(model, tokenizer, texts):
    with pytest.raises(UnknownNameError, match="module"):
        next(module_inputs(model, tokenizer, texts, ["model.layer"]))
    with pytest.raises(ManifoldLoraError, match="adapted modules"):
        adapted_modules(model)


def test_the_khrulkov_rule_is_scale_free_and_the_log2_rule_is_not():
    assert suggest_kappa(measured(0.072, 1.0)) == pytest.approx(-1.0)
    assert suggest_kappa(measured(0.72, 10.0)) == pytest.approx(-1.0)
    assert suggest_kappa(measured(np.log(2), 9.0), "log2") == pytest.approx(-1.0)
    assert suggest_kappa(measured(2 * np.log(2), 9.0), "log2") == pytest.approx(-0.25)
    assert suggest_kappa(measured(2 * np.log(2), 9.0), "log2", scale=2.0) == pytest.approx(-1.0)


def test_the_log2_rule_returns_the_curvature_of_hyperbolic_points():
    """Points far out in the hyperbolic plane of curvature -4 have delta close to ln 2 / 2."""
    from manifold_lora.experiments.token_geometry.delta.distances import pairwise
    from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity
    from manifold_lora.manifolds.build import build_manifold

    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=400)
    points = 6.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    plane = build_manifold({"name": "lorentz", "curvature": -4.0})
    found = suggest_kappa(hyperbolicity(pairwise(points, plane), 0), "log2")
    assert found == pytest.approx(-4.0, rel=0.05)


def test_every_rule_states_its_source_and_refuses_a_tree():
    assert RULES.keys() == SOURCES.keys()
    for rule in RULES:
        with pytest.raises(CurvatureError, match="positive delta"):
            suggest_kappa(measured(0.0, 1.0), rule)
    with pytest.raises(UnknownNameError, match="curvature rule"):
        suggest_kappa(measured(1.0, 2.0), "log3")


def test_kappa_by_layer_is_a_negative_curvature_for_every_block(model, tokenizer, texts):
    found = kappa_by_layer(model, tokenizer, texts, targets=["q_proj", "up_proj"])
    assert list(found) == [0, 1]
    assert all(-50 < kappa < 0 for kappa in found.values())
    from manifold_lora.manifolds.build import build_manifold

    for kappa in found.values():
        manifold = build_manifold({"name": "lorentz", "curvature": kappa})
        assert manifold.kappa.item() == pytest.approx(kappa)


def test_kappa_by_module_listens_to_adapters_where_there_are_any(tiny, tokenizer, texts):
    from manifold_lora.models.tuner.apply import adapt
    from manifold_lora.models.tuner.config import ManifoldLoraConfig

    adapted = adapt(
        AutoModelForCausalLM.from_pretrained(tiny), ManifoldLoraConfig(r=2, target_modules=["v_proj"])
    )
    found = kappa_by_module(adapted, tokenizer, texts)
    assert [name.split(".")[-1] for name in found] == ["v_proj", "v_proj"]
    plain = kappa_by_module(AutoModel.from_pretrained(tiny), tokenizer, texts, targets=["v_proj"])
    # B = 0: the adapter has not changed what it sees.
    assert list(found.values()) == pytest.approx(list(plain.values()))


def test_block_numbers_come_from_names():
    assert block_number("base_model.model.model.layers.11.mlp.up_proj") == 11
    assert block_number("h.3") == 3
    with pytest.raises(ManifoldLoraError, match="block of module"):
        block_number("lm_head")


def test_texts_without_tokens_are_refused(model, tokenizer):
    with pytest.raises(ManifoldLoraError, match="at least one token"):
        kappa_by_layer(model, tokenizer, [], targets=["q_proj"])
