"""A training that starts with a geometry that its tokens do not meet says so, once; tiny models are quiet."""

import warnings

import pytest
import torch
from peft import get_peft_model

from manifold_lora import ManifoldLoraConfig, calibrate
from manifold_lora.models.tiny import tiny_model
from manifold_lora.models.tuner.uncalibrated import UncalibratedWarning

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.randint(4, 64, (4, 12), generator=torch.Generator().manual_seed(0))
IDS[:, 0] = 1


def step(model):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model(input_ids=IDS, labels=IDS).loss.backward()
    return [one for one in seen if issubclass(one.category, UncalibratedWarning)]


@pytest.fixture
def sink(tiny_with_sink):
    def build(**options):
        config = ManifoldLoraConfig(**{"r": 4, "target_modules": ALL} | options)
        return get_peft_model(tiny_with_sink(), config)

    return build


def test_it_warns_once_with_the_angles_that_it_saw(sink):
    model = sink().train()
    (warning,) = step(model)
    assert "middle module 0.33" in str(warning.message)
    assert "CalibrationCallback()" in str(warning.message)
    assert not step(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_calibrated_one_is_quiet(sink):
    model = sink().train()
    calibrate(model, [{"input_ids": IDS}])
    assert not step(model)


@pytest.mark.parametrize(
    "options",
    [{"manifold": "euclidean"}, {"transform": "tangent"}, {"norm_scaling": "unit"}],
    ids=str,
)
def test_where_s_decides_nothing_it_is_quiet(sink, options):
    assert not step(sink(**options).train())


def test_evaluation_is_quiet_and_does_not_use_the_warning_up(sink):
    model = sink().eval()
    with torch.no_grad():
        model(input_ids=IDS)
    assert step(model.train())


def test_a_model_whose_tokens_are_as_long_as_s_is_quiet():
    model = get_peft_model(tiny_model(64), ManifoldLoraConfig(r=4, target_modules=ALL)).train()
    assert not step(model)


def test_tokens_far_too_long_are_warned_of_too(sink):
    model = sink(target_modules=["q_proj"])
    with torch.no_grad():
        for layer in model.get_base_model().model.layers:
            layer.input_layernorm.weight.mul_(50.0)
    assert step(model.train())


def test_checkpointed_layers_are_watched_without_saving_more_than_they_recompute(sink):
    model = sink().train()
    model.enable_input_require_grads()
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert step(model)
