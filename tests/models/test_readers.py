"""Layers that read one x gather its gradient in one place: the numbers are those of each layer by itself."""

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora.layer import Linear
from torch.utils.checkpoint import checkpoint

from manifold_lora.adapters.fast import readers, recomputed, whole
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.variant import DecodingLinear

ARMS = [
    {"curvature": {"mode": "learned", "kappa": -0.7}},
    {"manifold": "poincare", "norm_scaling": "unit", "curvature": {"mode": "learned", "kappa": -0.7}},
    {"manifold": "sphere", "curvature": 1.0, "norm_scaling": "released"},
    {"curvature": {"mode": "learned", "kappa": -0.7, "shared": True}, "norm_scaling": "fixed"},
    {"curvature": {"mode": "token", "kappa": -1.0}},
    {"token_norms": "shuffled"},
]
PRODUCT = {
    "name": "product",
    "parts": [
        {"share": 0.5, "name": "lorentz", "curvature": {"kappa": -1.0, "mode": "learned"}},
        {"share": 0.5, "name": "poincare", "curvature": -0.5},
    ],
}
# Whose update is added to the base in another order: equal to rounding.
RECOMPUTED = [
    {"transform": "boost", "curvature": {"mode": "learned", "kappa": -0.7}},
    {"manifold": "sphere", "transform": "boost"},
    {"manifold": PRODUCT},
    {"transform": "power"},
]
OTHERS = [
    {"transform": "tangent"},
    {"transform": "frozen_boost"},
    {"lora_dropout": 0.3},
]


class Block(torch.nn.Module):
    """Three maps of one x and one of what they make, as in attention."""

    def __init__(self, n=24, bias=False):
        super().__init__()
        self.q, self.k = torch.nn.Linear(n, 20, bias=bias), torch.nn.Linear(n, 20, bias=bias)
        self.v, self.o = torch.nn.Linear(n, 16, bias=bias), torch.nn.Linear(16, n, bias=bias)

    def forward(self, x):
        x = torch.nn.functional.layer_norm(x, x.shape[-1:])
        return self.o(torch.tanh(self.v(x)) * (self.q(x) * self.k(x)).mean(-1, keepdim=True)) + x


def built(dtype=torch.float64, bias=False, n=24, **options):
    torch.manual_seed(1)
    config = ManifoldLoraConfig(r=4, target_modules=["q", "k", "v", "o"], **options)
    model = get_peft_model(Block(n, bias=bias), config).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.train()


def tokens(dtype=torch.float64, shape=(2, 7, 24)):
    torch.manual_seed(2)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def step(model, x, run=lambda model, x: model(x)):
    """The output and the gradients by x and by all that learns."""
    torch.manual_seed(3)
    output = run(model, x)
    learned = [p for p in model.parameters() if p.requires_grad]
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [x, *learned])]


@pytest.fixture
def by_peft(monkeypatch):
    """The same model with every layer by itself, base and update apart."""

    def run(model, x, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(DecodingLinear, "_by_itself", lambda self, x: None)
            return step(model, x, **kwargs)

    return run


@pytest.fixture
def nodes(monkeypatch):
    """How often a layer was one node."""
    made = []
    for kind, argument in ((whole._Whole, 2), (recomputed._Update, 6)):
        apply = kind.apply
        take = partial(_count, made, argument, apply)
        monkeypatch.setattr(kind, "apply", take)
    return made


def _count(made, argument, apply, *given):
    if given[argument] is not None:
        made.append(given[argument])
    return apply(*given)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", ARMS, ids=str)
def test_a_step_is_that_of_layers_by_themselves(options, bias, by_peft, nodes):
    model, x = built(bias=bias, **options), tokens()
    for _ in range(2):
        ours, theirs = step(model, x), by_peft(model, x)
        assert torch.equal(ours[0], theirs[0])  # values bit for bit, gradients by x to rounding
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    assert len(nodes) == 8


@pytest.mark.parametrize("options", RECOMPUTED, ids=str)
def test_a_step_of_the_other_arms_is_that_of_layers_by_themselves(options, by_peft, nodes):
    model, x = built(**options), tokens()
    for _ in range(2):
        for one, other in zip(step(model, x), by_peft(model, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    assert len(nodes) == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_the_dtypes_of_models(dtype, by_peft, nodes):
    model, x = built(dtype), tokens(dtype)
    rtol = {torch.float32: 1e-4, torch.bfloat16: 5e-2}[dtype]
    ours, theirs = step(model, x), by_peft(model, x)
    assert torch.equal(ours[0], theirs[0])
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= rtol * other.norm()
    assert len(nodes) == 4


def test_layers_large_enough_for_products_by_onednn(by_peft, nodes):
    model, x = built(torch.float32, n=160), tokens(torch.float32, shape=(4, 80, 160))
    ours, theirs = step(model, x), by_peft(model, x)
    assert torch.equal(ours[0], theirs[0])
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()
    assert len(nodes) == 4


def test_an_optimizer_that_steps_inside_the_backward_pass():
    """Each A moves as soon as its gradient is there, before the last reader of x has had its turn."""
    model, x = built(), tokens()
    _, by_x, *_ = step(model, x)

    def move(parameter):
        parameter.data.add_(100 * parameter.grad)

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(move)
    model(x).square().sum().backward()
    assert torch.equal(x.grad, by_x)


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_what_falls_back_is_the_same_bit_for_bit(options, by_peft, nodes):
    model, x = built(**options), tokens()
    assert all(map(torch.equal, step(model, x), by_peft(model, x)))
    assert not nodes


def heard(model):
    model.base_model.model.k.base_layer.register_forward_hook(lambda module, args, output: output * 2)


def offloaded(model):
    base = model.base_model.model.k.base_layer
    base.forward = lambda x: 2 * torch.nn.functional.linear(x, base.weight)


def trained(model):
    model.base_model.model.k.base_layer.weight.requires_grad_()


def half_adapter(model):
    model.base_model.model.k.lora_A.float()


def other_active(model):
    model.add_adapter("other", model.peft_config["default"])
    model.base_model.model.k.to(torch.float64).set_adapter(["default", "other"])


@pytest.mark.parametrize("change", [heard, offloaded, trained, half_adapter, other_active])
def test_one_layer_falls_back_and_the_others_go_on(change, by_peft, nodes):
    model, x = built(), tokens()
    change(model)
    for one, other in zip(step(model, x), by_peft(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert len(nodes) == 3


@pytest.mark.parametrize("reentrant", [False, True])
def test_under_checkpointing_from_the_first_step_on(reentrant, by_peft):
    model, x = built(), tokens()

    def run(model, x):
        first = checkpoint(model, x, use_reentrant=reentrant)
        return checkpoint(model, first, use_reentrant=reentrant)

    torch.manual_seed(3)
    for _ in range(2):
        model.zero_grad()
        x.grad = None
        run(model, x).square().sum().backward()
        ours = [x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]
        theirs = by_peft(model, x, run=lambda model, x: model(model(x)))[1:]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_any_part_of_the_graph_may_be_asked_for():
    model, x = built(), tokens()
    layers = model.base_model.model
    chosen = layers.q, layers.k, layers.v
    ours, theirs = [layer(x) for layer in chosen], [Linear.forward(layer, x) for layer in chosen]
    # Leaves what it gathered for x, which nobody wanted.
    torch.autograd.grad(ours[1].sum(), [layers.k.lora_A.default.weight], retain_graph=True)
    for asked in ([0], [1], [2], [0, 2], [1, 2], [0, 1, 2]):
        got, want = (
            torch.autograd.grad(sum(y[i].square().sum() for i in asked), x, retain_graph=True)[0]
            for y in (ours, theirs)
        )
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_one_input_may_be_read_again_and_again():
    # A leaf that every step gets, as in a benchmark: no step leads into the graph of the one before.
    model, x = built(), tokens()
    layers = model.base_model.model
    found = []
    for _ in range(3):
        x.grad = None
        (layers.q(x).sum() + layers.k(x).sum() + layers.q(x).square().sum()).backward()
        found.append(x.grad)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    x.grad = None
    apart = [Linear.forward(layer, x) for layer in (layers.q, layers.k)]
    (apart[0].sum() + apart[1].sum() + apart[0].square().sum()).backward()
    torch.testing.assert_close(found[0], x.grad, rtol=1e-11, atol=1e-12)


def test_readers_of_one_leaf_may_have_losses_and_backward_passes_of_their_own():
    model, x = built(), tokens()
    layers = model.base_model.model
    for order in ((0, 1), (1, 0)):
        found = []
        for forward in (lambda layer: layer(x), lambda layer: Linear.forward(layer, x)):
            x.grad = None
            losses = [forward(layer).square().sum() for layer in (layers.q, layers.k)]
            for i in order:  # each frees its graph
                losses[i].backward()
            found.append(x.grad)
        torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


def test_no_tokens(by_peft):
    model, x = built(), tokens(shape=(0, 24))
    assert all(map(torch.equal, step(model, x), by_peft(model, x)))


def test_hooks_of_tensors_and_layers_see_what_they_saw(by_peft):
    model, x = built(), tokens()
    seen = []
    layers = model.base_model.model
    layers.k.register_forward_pre_hook(lambda layer, given: seen.append(given[0].detach()))
    layers.k.register_full_backward_hook(
        lambda layer, by_input, by_output: seen.extend([*by_input, *by_output])
    )
    layers.q.register_forward_hook(
        lambda layer, given, output: output.register_hook(lambda g: seen.append(g)) and None
    )
    ours, mine = step(model, x), list(seen)
    seen.clear()
    theirs = by_peft(model, x)
    assert len(mine) == len(seen) == 4
    for one, other in zip([*ours, *mine], [*theirs, *seen], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_an_input_changed_between_its_readers_is_another():
    model = built()
    layers, x = model.base_model.model, tokens().detach()
    layers.q(x)
    x.mul_(3)
    assert torch.equal(layers.k(x), Linear.forward(layers.k, x))


@pytest.mark.parametrize("options", [ARMS[0], *RECOMPUTED[:3]], ids=str)
def test_second_derivatives(options, by_peft):
    model, x = built(**options), tokens(shape=(1, 6, 24))

    def curved(model, x):
        (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return slope

    for one, other in zip(step(model, x, curved), by_peft(model, x, run=curved), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_nothing_holds_the_graph_of_a_pass_without_backward(monkeypatch):
    alive = weakref.WeakSet()

    class Watched(readers.Gathered):
        def __init__(self):
            super().__init__()
            alive.add(self)

    monkeypatch.setattr(readers, "Gathered", Watched)
    model, x = built(), tokens()
    gc.disable()
    try:
        output = model.base_model(x)  # as peft's models for a task do
        assert len(alive) == 2
        del output
        assert not alive
    finally:
        gc.enable()


def test_a_copy_is_a_model_of_its_own():
    model, x = built(), tokens()
    for one, other in zip(step(copy.deepcopy(model), x), step(model, x), strict=True):
        assert torch.equal(one, other)


def test_a_step_saves_as_much_as_it_did(by_peft):
    model, x = built(), tokens()

    def saved(run):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            run(model, x, run=lambda model, x: model(x))
        return sum(sizes) - frozen

    frozen = sum(
        layer.base_layer.weight.numel() for layer in model.modules() if isinstance(layer, DecodingLinear)
    )
    assert saved(step) <= saved(by_peft) + frozen
