"""Series and parallel bottlenecks: the formula, the start, files, several adapters, and what is refused."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel, get_peft_model
from torch import nn

from manifold_lora.errors import LinearOnlyError, ManifoldLoraError, UnknownNameError
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.bottleneck import BOTTLENECK, BottleneckConfig
from manifold_lora.models.tuner.bottleneck_layer import NON_LINEARITIES, BottleneckLayer

PLACEMENTS = ["series", "parallel"]


@pytest.fixture
def stirred(base):
    """``stirred("series")``: a model whose bottlenecks are off their start."""

    def build(placement, family="llama", **options):
        config = BottleneckConfig(
            placement=placement, bottleneck_size=5, task_type="CAUSAL_LM", **{"scaling": 1.5, **options}
        )
        return stir(get_peft_model(base(family), config))

    return build


def stir(model):
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".bottleneck_" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


def layers(model):
    return [module for module in model.modules() if isinstance(module, BottleneckLayer)]


@pytest.mark.parametrize("non_linearity", NON_LINEARITIES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_layer_computes_the_formula(stirred, family, placement, non_linearity):
    layer = layers(stirred(placement, family, non_linearity=non_linearity))[0]
    x = torch.randn(2, 3, layer.in_features)
    plain = layer.base_layer(x)
    z = plain if placement == "series" else x
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    f = {**vars(torch.nn.functional), "tanh": torch.tanh}[non_linearity]
    hidden = f(z @ down.weight.T + down.bias)
    torch.testing.assert_close(layer(x), plain + 1.5 * (hidden @ up.weight.T + up.bias))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_adapted_model_starts_as_the_base_and_learns(base, tokens, placement):
    model = get_peft_model(base(), BottleneckConfig(placement=placement, bottleneck_size=3))
    assert len(layers(model)) == 2  # one for each block
    assert torch.equal(model(tokens).logits, base()(tokens).logits)
    model(tokens, labels=tokens).loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(".bottleneck_" in name for name in trained)
    assert all(grad.abs().max() > 0 for name, grad in trained.items() if "bottleneck_up" in name)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_reload_is_bit_identical(stirred, base, tokens, tmp_path, placement, family):
    model = stirred(placement, family).eval()
    folder = save_adapter(model, tmp_path / "adapter")
    assert isinstance(PeftConfig.from_pretrained(str(folder)), BottleneckConfig)
    for again in (
        PeftModel.from_pretrained(base(family), folder),
        PeftModel.from_pretrained(base(family), folder, low_cpu_mem_usage=True),
        AutoPeftModelForCausalLM.from_pretrained(folder),
        load_adapter(folder),
    ):
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)


def test_adapters_are_switched_disabled_and_deleted(stirred, base, tokens):
    model = stirred("series").eval()
    first = model(tokens).logits
    model.add_adapter("second", BottleneckConfig(placement="parallel", bottleneck_size=2))
    assert torch.equal(model(tokens).logits, first)
    model.set_adapter("second")
    assert torch.equal(model(tokens).logits, base()(tokens).logits)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".second." in name for name in trained)
    with torch.no_grad():
        layers(model)[0].bottleneck_up["second"].weight.normal_()
    assert not torch.equal(model(tokens).logits, first)
    with model.disable_adapter():
        assert torch.equal(model(tokens).logits, base()(tokens).logits)
    model.set_adapter("default")
    model.delete_adapter("second")
    assert not any(".second" in name for name in model.state_dict())
    assert torch.equal(model(tokens).logits, first)


def test_a_mixed_batch_equals_one_adapter_at_a_time(stirred, base, tokens):
    head = {"modules_to_save": ["lm_head"]}
    model = stirred("series", **head)
    model.add_adapter("second", BottleneckConfig(placement="parallel", bottleneck_size=2, **head))
    stir(model).eval()
    rows = ["second", "__base__", "default"]
    mixed = model(tokens, adapter_names=rows).logits
    torch.testing.assert_close(mixed[2], model(tokens).logits[2])
    torch.testing.assert_close(mixed[1], base()(tokens).logits[1])
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2, "pad_token_id": 0}
    generated = model.generate(input_ids=tokens, adapter_names=rows, **options)
    model.set_adapter("second")
    torch.testing.assert_close(mixed[0], model(tokens).logits[0])
    assert torch.equal(generated[:1], model.generate(input_ids=tokens, **options)[:1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [(["secnd", "default", "default"], "did you mean 'second'"), (["default"], "one for each of 3 rows")],
)
def test_a_mixed_batch_of_other_rows_or_names_is_refused(stirred, tokens, rows, message):
    model = stirred("series").eval()
    model.add_adapter("second", BottleneckConfig(bottleneck_size=2))
    with pytest.raises(ManifoldLoraError, match=message):
        model(tokens, adapter_names=rows)
    with pytest.raises(ManifoldLoraError, match="evaluation"):
        model.train()(tokens, adapter_names=["default"] * 3)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_half_precision_base_keeps_its_dtype(base, tokens):
    model = stir(get_peft_model(base(dtype=torch.bfloat16), BottleneckConfig(bottleneck_size=3)))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert model(tokens).logits.dtype == torch.bfloat16


def test_generation_with_a_cache_is_generation_without(stirred, tokens):
    model = stirred("parallel").eval()
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), **options)
    plain = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **options
    )
    assert torch.equal(cached, plain)


@pytest.mark.parametrize(
    "merge",
    [lambda m: m.merge_and_unload(), lambda m: m.merge_adapter(), lambda m: layers(m)[0].merge()],
    ids=["merge_and_unload", "merge_adapter", "layer.merge"],
)
def test_merging_is_refused_and_nothing_changes(stirred, tokens, merge):
    model = stirred("parallel").eval()
    expected = model(tokens).logits
    with pytest.raises(LinearOnlyError, match="non-linearity"):
        merge(model)
    assert torch.equal(model(tokens).logits, expected)


def test_unloading_gives_the_base_back(stirred, base, tokens):
    model = stirred("series").unload()
    assert not layers(model)
    assert torch.equal(model(tokens).logits, base()(tokens).logits)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"placement": "serial"}, UnknownNameError, "did you mean 'series'"),
        ({"non_linearity": "than"}, UnknownNameError, "did you mean 'tanh'"),
        ({"bottleneck_size": 0}, ManifoldLoraError, "at least 1"),
        ({"bottleneck_size": True}, ManifoldLoraError, "an integer"),
        ({"scaling": float("nan")}, ManifoldLoraError, "finite"),
        ({"scaling": 0}, ManifoldLoraError, "other than 0"),
        ({"dropout": 1.0}, ManifoldLoraError, "dropout"),
    ],
    ids=str,
)
def test_bad_values_are_reported(options, error, message):
    with pytest.raises(error, match=message):
        BottleneckConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": ["down_porj"]}, "did you mean 'down_proj'"),
        ({"target_modules": ["embed_tokens"]}, "looks rows up"),
        ({"target_modules": ["down_proj"], "layers_to_transform": [9]}, "no layer would be adapted"),
        ({"modules_to_save": ["lm_haed"]}, "did you mean 'lm_head'"),
    ],
    ids=str,
)
def test_bad_targets_leave_the_model_alone(base, options, message):
    model = base()
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(ManifoldLoraError, match=message):
        get_peft_model(model, BottleneckConfig(**options))
    assert [name for name, _ in model.named_modules()] == before


def test_an_unknown_architecture_must_name_its_targets():
    with pytest.raises(UnknownNameError, match="target_modules"):
        get_peft_model(nn.Sequential(nn.Linear(4, 4)), BottleneckConfig())
    assert BottleneckConfig().peft_type is BOTTLENECK
