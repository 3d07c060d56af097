"""The short way of a single token says what peft's way says, whatever is asked of the layer."""

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora.layer import Linear

from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.variant import DecodingLinear, is_fresh

ARMS = [
    {"curvature": {"mode": "learned", "kappa": -0.7}},
    {"manifold": "poincare", "norm_scaling": "unit"},
    {"manifold": "sphere", "curvature": 1.0},
    {"transform": "boost"},
    {"transform": "tangent"},
    {"curvature": {"mode": "token", "kappa": -1.0}},
    {"lora_dropout": 0.3},
]


def layer_of(model):
    return next(module for module in model.modules() if isinstance(module, DecodingLinear))


def both(layer, x, **kwargs):
    """By the layer, and by peft's own forward."""
    with torch.no_grad():
        torch.manual_seed(5)
        ours = layer(x, **kwargs)
        torch.manual_seed(5)
        return ours, Linear.forward(layer, x, **kwargs)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", ARMS, ids=str)
def test_a_token_is_adapted_as_by_peft(adapted, shake, options, training):
    layer = layer_of(shake(adapted(**options)).train(training))
    for shape in ((1, 1), (1,), (2, 3)):
        x = torch.randn(*shape, layer.in_features)
        ours, theirs = both(layer, x)
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
        assert not torch.equal(ours, layer.base_layer(x))


def test_what_is_asked_of_peft_is_still_answered_by_peft(adapted, shake):
    model = shake(adapted()).eval()
    layer, x = layer_of(model), torch.randn(1, 1, 32)
    with torch.no_grad():
        base, plain = layer.base_layer(x), layer(x)
        assert torch.equal(both(layer, x, adapter_names=["__base__"])[0], base)
        with model.disable_adapter():
            assert torch.equal(layer(x), base)
        model.add_adapter("other", model.peft_config["default"])
        shake(model)
        model.set_adapter("other")
        assert not torch.equal(layer(x), plain)
        layer.set_adapter(["default", "other"])
        assert torch.equal(*both(layer, x))
        model.set_adapter("default")
        model.delete_adapter("other")
        assert torch.equal(*both(layer, x))


def test_a_merged_adapter_is_not_added_twice(adapted, shake):
    model = shake(adapted(transform="tangent", norm_scaling="fixed")).eval()
    layer, x = layer_of(model), torch.randn(1, 1, 32)
    with torch.no_grad():
        expected = layer(x)
        model.merge_adapter()
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_gradient_goes_through_a_single_token(adapted, shake):
    layer = layer_of(shake(adapted()))
    layer(torch.randn(1, 1, 32)).sum().backward()
    assert layer.lora_B["default"].weight.grad.abs().sum() > 0


def test_who_holds_the_base_output_keeps_it(adapted, shake):
    layer, seen = layer_of(shake(adapted())), []
    assert is_fresh(layer.base_layer)
    handle = layer.base_layer.register_forward_hook(lambda module, args, output: seen.append(output))
    assert not is_fresh(layer.base_layer)
    x = torch.randn(3, 5, 32)
    output = layer(x)
    assert torch.equal(seen[0], torch.nn.functional.linear(x, layer.base_layer.weight))
    handle.remove()
    assert torch.equal(layer(x), output)


@pytest.mark.parametrize("options", [*ARMS, {"autocast_adapter_dtype": True}], ids=str)
def test_the_base_is_asked_once_for_a_token(base, shake, options):
    options = dict(options)
    half = options.pop("autocast_adapter_dtype", False)  # a bfloat16 base under a float32 adapter
    model = base(dtype=torch.bfloat16) if half else base()
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj"], **options)
    layer, calls = layer_of(shake(get_peft_model(model, config)).eval()), []
    layer.base_layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        layer(torch.randn(1, 1, 32, dtype=torch.bfloat16 if half else torch.float32))
    assert len(calls) == 1
