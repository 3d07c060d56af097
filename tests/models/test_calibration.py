"""calibrate: s of a module is the median length of the tokens it reads, and is saved with the adapter."""

import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments

from manifold_lora import CalibrationCallback, ManifoldLoraConfig, calibrate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.geometry_log import effective_scale
from manifold_lora.models.module_geometry import measure_geometry
from manifold_lora.models.tuner.token_inputs import active_update, manifold_layers

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows(count=4, length=12, seed=0):
    """Token ids that begin with <s>, the sink of the tiny model."""
    ids = torch.randint(4, 64, (count, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = 1
    return ids


@pytest.fixture
def adapted_sink(tiny_with_sink):
    def build(**options):
        config = ManifoldLoraConfig(**{"r": 4, "target_modules": ALL, "task_type": "CAUSAL_LM"} | options)
        return get_peft_model(tiny_with_sink(), config)

    return build


def lengths_by_hand(model, ids, mask=None):
    """Module -> float64 lengths of its input, no first token and no padding, by hooks of the test's own."""
    seen, handles = {}, []
    keep = torch.ones_like(ids).bool() if mask is None else mask.bool()
    keep = keep & (keep.cumsum(-1) > 1)
    for name, layer in manifold_layers(model):
        handles.append(
            layer.register_forward_pre_hook(
                lambda _, x, name=name: seen.__setitem__(name, x[0][keep].double().norm(dim=-1))
            )
        )
    with torch.no_grad():
        model(input_ids=ids, attention_mask=keep.long() if mask is None else mask)
    for handle in handles:
        handle.remove()
    return seen


def test_s_is_the_median_length_and_a_is_one_over_r_at_the_median(adapted_sink):
    model = adapted_sink(curvature=-4.0)
    ids = rows()
    by_hand = lengths_by_hand(model, ids, torch.ones_like(ids))
    found = calibrate(model, [{"input_ids": ids[:2]}, {"input_ids": ids[2:]}])
    scales = effective_scale(model)
    assert list(found) == list(by_hand)
    assert len(found) == 21
    for name, lengths in by_hand.items():
        median = float(lengths.quantile(0.5))
        assert scales[f"{name}.default.norm_scaling"] == pytest.approx(median, rel=1e-5)
        assert found[name].angle.median == pytest.approx(2.0, rel=1e-5)
        assert found[name].norm.largest == pytest.approx(float(lengths.max()), rel=1e-5)
        assert found[name].tokens == 4 * 11


def test_modules_that_read_the_same_tensor_get_the_same_s_to_the_bit(adapted_sink):
    found = calibrate(adapted_sink(), [{"input_ids": rows()}])
    for layer in range(3):
        qkv = {found[f"model.layers.{layer}.self_attn.{kind}_proj"].norm for kind in "qkv"}
        mlp = {found[f"model.layers.{layer}.mlp.{kind}_proj"].norm for kind in ("gate", "up")}
        assert len(qkv) == len(mlp) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_the_first_token_of_each_row_do_not_count(adapted_sink, side):
    ids = rows(2)
    alone, padded = adapted_sink(), adapted_sink()
    expected = calibrate(alone, [{"input_ids": ids}])
    filler, ones = torch.zeros(2, 3, dtype=torch.long), torch.ones_like(ids)
    pair = (filler, ids) if side == "left" else (ids, filler)
    mask = torch.cat((filler, ones) if side == "left" else (ones, filler), dim=1)
    found = calibrate(padded, [{"input_ids": torch.cat(pair, dim=1), "attention_mask": mask}])
    for name, one in expected.items():
        assert found[name].tokens == one.tokens == 2 * 11
        assert found[name].norm.median == pytest.approx(one.norm.median, rel=1e-4)
    # The sink, of length 80 sqrt(width), is nowhere in it.
    assert max(one.norm.largest for one in found.values()) < 20


def test_sequences_packed_in_one_row_each_lose_their_first_token(adapted_sink):
    ids = rows(2, 8)
    positions = torch.arange(8).repeat(2)[None]
    found = calibrate(adapted_sink(), [{"input_ids": ids.reshape(1, -1), "position_ids": positions}])
    assert {one.tokens for one in found.values()} == {14}


def test_the_output_at_the_start_is_still_the_base_models(adapted_sink):
    model = adapted_sink().eval()
    ids = rows()
    before = model(input_ids=ids).logits
    calibrate(model, [{"input_ids": ids}])
    assert torch.equal(model(input_ids=ids).logits, before)


def test_it_leaves_no_hook_no_gradient_and_everything_else_as_it_was(adapted_sink):
    model = adapted_sink().train()
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    hooks = [dict(module._forward_pre_hooks) for module in model.modules()]
    state = torch.get_rng_state()
    calibrate(model, [{"input_ids": rows()}])
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert [dict(module._forward_pre_hooks) for module in model.modules()] == hooks
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == trains[name]
        assert parameter.grad is None
        assert torch.equal(parameter, weights[name])


@pytest.mark.parametrize("scaling", ["learned", "fixed", "released"])
def test_it_is_saved_with_the_adapter(adapted_sink, tiny_with_sink, tmp_path, scaling):
    model = adapted_sink(norm_scaling=scaling)
    calibrate(model, [{"input_ids": rows()}])
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_with_sink(), tmp_path)
    assert effective_scale(loaded) == effective_scale(model)


@pytest.mark.parametrize("scaling", ["identity", "unit"])
def test_a_scaling_without_an_s_to_start_is_measured_and_left_as_it_is(adapted_sink, scaling):
    model = adapted_sink(norm_scaling=scaling, max_angle=3.0)
    before = effective_scale(model)
    found = calibrate(model, [{"input_ids": rows()}])
    assert effective_scale(model) == before
    assert all(math.isfinite(one.gain.median) for one in found.values())


def test_no_batches_are_refused(adapted_sink):
    with pytest.raises(ManifoldLoraError, match="batches: got 0"):
        calibrate(adapted_sink(), [])


@pytest.mark.parametrize("length", [1, 0], ids=["first tokens alone", "all padding"])
def test_rows_without_a_token_that_counts_name_the_module(adapted_sink, length):
    mask = (torch.arange(12) < length).long().expand(4, 12)
    with pytest.raises(ManifoldLoraError, match=r"reach model\.layers\.0\.self_attn\.q_proj"):
        calibrate(adapted_sink(), [{"input_ids": rows(), "attention_mask": mask}])


def test_a_module_that_no_token_reaches_is_named(adapted_sink):
    model = adapted_sink()
    attention = model.get_base_model().model.layers[1]
    attention.mlp.forward = lambda x: x  # the model never calls its three layers
    with pytest.raises(ManifoldLoraError, match=r"reach model\.layers\.1\.mlp\.gate_proj"):
        calibrate(model, [{"input_ids": rows()}])


def test_nan_names_the_module_and_changes_no_scale(adapted_sink):
    model = adapted_sink()
    before = effective_scale(model)
    with torch.no_grad():
        model.get_base_model().model.layers[1].mlp.up_proj.base_layer.weight[0, 0] = math.nan
    with pytest.raises(ManifoldLoraError, match=r"input of model\.layers\.1\.mlp\.down_proj: got nan"):
        calibrate(model, [{"input_ids": rows()}])
    assert effective_scale(model) == before


def test_a_trained_adapter_keeps_the_s_that_it_was_trained_with(adapted_sink):
    model = adapted_sink()
    _, layer = next(manifold_layers(model))
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.1)
    with pytest.raises(ManifoldLoraError, match="not trained yet"):
        calibrate(model, [{"input_ids": rows()}])
    # Started at random, B says nothing of training.
    assert calibrate(adapted_sink(init_lora_weights=False), [{"input_ids": rows()}])


def test_plain_lora_has_nothing_to_calibrate(tiny_with_sink):
    plain = get_peft_model(tiny_with_sink(), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ManifoldLoraError, match="manifold adapter"):
        calibrate(plain, [{"input_ids": rows()}])


@pytest.mark.parametrize(
    "geometry", [{}, {"manifold": "sphere"}, {"manifold": "poincare"}, {"transform": "boost"}], ids=str
)
def test_what_is_measured_from_lengths_alone_is_what_the_tokens_themselves_give(adapted_sink, geometry):
    model = adapted_sink(curvature=2.0 if geometry.get("manifold") == "sphere" else -2.0, **geometry)
    found = calibrate(model, [{"input_ids": rows()}])
    seen = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, x, name=name: seen.__setitem__(name, x[0][:, 1:].flatten(0, 1).double())
        )
        for name, layer in manifold_layers(model)
    ]
    with torch.no_grad():
        model(input_ids=rows())
    for handle in handles:
        handle.remove()
    for name, layer in manifold_layers(model):
        _, update, A, B = active_update(layer)
        c = update.gain(seen[name], A, B).flatten()
        assert found[name].gain.median == pytest.approx(float(c.quantile(0.5)), rel=1e-5), name
        share = float(c.std(correction=0) / c.square().mean().sqrt())
        assert found[name].dose == pytest.approx(share, abs=1e-5)


def test_measuring_again_gives_the_same(adapted_sink):
    model, batch = adapted_sink(), {"input_ids": rows()}
    found, again = calibrate(model, [batch]), measure_geometry(model, [batch])
    for name, one in found.items():
        assert again[name].to_dict()["angle"] == pytest.approx(one.to_dict()["angle"], rel=1e-6)
        assert again[name].dose == pytest.approx(one.dose, abs=1e-7)


def trainer(model, folder, callback, **options):
    data = [{"input_ids": row, "labels": row} for row in rows(16)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=3, report_to=[], save_strategy="no", seed=5, use_cpu=True,
        disable_tqdm=True, per_device_train_batch_size=4, logging_steps=1, **options
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback] if callback else [])


def test_the_callback_calibrates_before_the_first_step_and_leaves_the_order_of_the_data(
    adapted_sink, tmp_path
):
    callback = CalibrationCallback(rows=4)
    model = adapted_sink()
    trainer(model, tmp_path, callback).train()
    fresh = adapted_sink()
    expected = calibrate(fresh, [{"input_ids": rows(16)[[0, 4, 8, 12]]}])
    assert {n: one.norm for n, one in callback.modules.items()} == {
        n: one.norm for n, one in expected.items()
    }
    # Calibrated by hand and trained without it: the same losses, so the same batches in the same order.
    plain = trainer(fresh, tmp_path, None)
    plain.train()
    again = trainer(adapted_sink(), tmp_path, CalibrationCallback(rows=4))
    again.train()
    losses = [[line["loss"] for line in run.state.log_history if "loss" in line] for run in (plain, again)]
    assert losses[0] == losses[1]
