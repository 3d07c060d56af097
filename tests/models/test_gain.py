"""The median gain of each layer, and the control arm that gives plain LoRA the same gain."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import LoraLayer

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.gain import gain_matched_alpha, gain_matched_lora, measure_gain
from manifold_lora.models.tuner.config import ManifoldLoraConfig

NAMES = [f"model.layers.{i}.self_attn.{kind}" for i in (0, 1) for kind in ("q_proj", "v_proj")]


def inputs_of(model, batches) -> dict[str, list[torch.Tensor]]:
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in NAMES}
    handles = [
        model.get_base_model()
        .get_submodule(name)
        .register_forward_pre_hook(lambda _, x, n=name: seen[n].append(x[0]))
        for name in NAMES
    ]
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("options", [{}, {"manifold": "poincare"}, {"manifold": "sphere"}], ids=str)
def test_the_gain_is_the_ratio_of_the_update_to_that_of_lora(adapted, shake, tokens, options):
    model = shake(adapted(norm_scaling="fixed", **options)).eval()
    batches = [{"input_ids": tokens[:2]}, {"input_ids": tokens[2:]}]
    gains = measure_gain(model, batches)
    assert list(gains) == NAMES
    for name, seen in inputs_of(model, batches).items():
        layer = model.get_base_model().get_submodule(name)
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        x = torch.cat([s[:, 1:].flatten(0, 1) for s in seen])
        plain = (x @ A.T @ B.T).norm(dim=-1)
        ratio = (layer.lora_manifold["default"](x, A, B).norm(dim=-1) / plain).detach()
        assert gains[name] == pytest.approx(float(ratio.quantile(0.5)), rel=1e-4)


def test_a_flat_geometry_has_gain_one_and_a_curved_one_has_not(adapted, tokens):
    assert measure_gain(adapted(manifold="euclidean"), [{"input_ids": tokens}]) == pytest.approx(
        dict.fromkeys(NAMES, 1.0)
    )
    assert all(c > 1.01 for c in measure_gain(adapted(), [{"input_ids": tokens}]).values())
    assert all(c < 0.99 for c in measure_gain(adapted(manifold="sphere"), [{"input_ids": tokens}]).values())


def test_padding_does_not_count(adapted, shake, tokens):
    model = shake(adapted(norm_scaling="fixed"))
    padded = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    mask = torch.cat([torch.ones_like(tokens), torch.zeros_like(tokens)], dim=1)
    alone = measure_gain(model, [{"input_ids": tokens}])
    assert measure_gain(model, [{"input_ids": padded, "attention_mask": mask}]) == pytest.approx(
        alone, rel=1e-5
    )
    assert measure_gain(model, [{"input_ids": padded}]) != pytest.approx(alone, rel=1e-5)


def test_the_first_token_of_each_row_does_not_count_and_one_huge_token_moves_nothing(adapted, shake, tokens):
    model = shake(adapted(norm_scaling="fixed"))
    layer = model.get_base_model().get_submodule(NAMES[0])
    alone = measure_gain(model, [{"input_ids": tokens}])[NAMES[0]]
    left_padded = torch.cat([torch.zeros_like(tokens[:, :2]), tokens], dim=1)
    mask = (torch.arange(left_padded.shape[1]) >= 2).long().expand_as(left_padded)

    def stretched(start, factor):
        def hook(_, x):
            (x,) = x
            return (torch.cat([x[:, :start], factor * x[:, start : start + 1], x[:, start + 1 :]], dim=1),)

        handle = layer.register_forward_pre_hook(hook, prepend=True)
        try:
            batch = {"input_ids": left_padded, "attention_mask": mask}
            return measure_gain(model, [batch])[NAMES[0]]
        finally:
            handle.remove()

    assert stretched(2, 1e3) == pytest.approx(stretched(2, 1.0), rel=1e-6)
    assert stretched(2, 1.0) == pytest.approx(alone, rel=1e-4)
    assert stretched(5, 1e3) == pytest.approx(alone, rel=0.1)


def test_measuring_leaves_no_hook_no_gradient_and_the_mode_as_it_was(adapted, tokens):
    model = adapted().train()
    before = [dict(module._forward_pre_hooks) for module in model.modules()]
    measure_gain(model, [{"input_ids": tokens}])
    assert model.training
    assert [dict(module._forward_pre_hooks) for module in model.modules()] == before
    assert all(p.grad is None for p in model.parameters())


def test_the_control_arm_has_alpha_times_c_in_every_layer(adapted, base, tokens):
    model = adapted(
        alpha_pattern={"v_proj": 6}, lora_alpha=4, r=2, rank_pattern={"layers.1.self_attn.q_proj": 5}
    )
    config = model.peft_config["default"]
    gains = measure_gain(model, [{"input_ids": tokens}])
    control = gain_matched_lora(config, gains)
    assert type(control) is LoraConfig
    plain = get_peft_model(base(), control).get_base_model()
    for name in NAMES:
        mine, theirs = model.get_base_model().get_submodule(name), plain.get_submodule(name)
        assert theirs.r["default"] == mine.r["default"]
        assert theirs.scaling["default"] == pytest.approx(mine.scaling["default"] * gains[name])
    assert sum(isinstance(module, LoraLayer) for module in plain.modules()) == len(NAMES)


def test_alphas_name_whole_modules_and_not_their_namesakes():
    config = ManifoldLoraConfig(lora_alpha=10)
    assert gain_matched_alpha(config, {"layers.1.q": 0.5}) == {r"layers\.1\.q": 5.0}


@pytest.mark.parametrize("batches", [[], [{"attention_mask": 0}]], ids=str)
def test_no_tokens_is_an_error(adapted, tokens, batches):
    filled = [{"input_ids": tokens, "attention_mask": torch.zeros_like(tokens)} for _ in batches]
    with pytest.raises(ManifoldLoraError, match="at least one"):
        measure_gain(adapted(), filled)


def test_a_plain_lora_has_no_gain_to_measure(base, tokens):
    with pytest.raises(ManifoldLoraError, match="manifold adapter"):
        measure_gain(get_peft_model(base(), LoraConfig(r=2)), [{"input_ids": tokens}])
