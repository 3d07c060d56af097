"""The hand-derived backward: against finite differences, and in what it keeps."""

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from manifold_lora.adapters.fast import function as fused_function
from manifold_lora.adapters.fast import fused
from manifold_lora.adapters.fast.numbers import row_norm
from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.norm_scaling import Learned
from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.manifolds import Lorentz, Poincare, Sphere
from manifold_lora.manifolds.conformal import ROUND

CURVED = {"lorentz": -0.6, "poincare": -0.6, "sphere": 0.4}
# Few tokens (at most the rank) take a branch of their own; r > n and r > m are degenerate Gram matrices.
SIZES = [(3, 4, 5, 3), (6, 4, 5, 3), (5, 2, 3, 4)]
LENGTHS = [1e-2, 0.7, 2.5]


def learned_spec(name, norm_scaling):
    curvature = {"kappa": CURVED[name], "mode": "learned"}
    return AdapterSpec.parse({"manifold": name, "curvature": curvature, "norm_scaling": norm_scaling})


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("norm_scaling", list(NORM_SCALINGS))
def test_gradients_are_those_of_finite_differences(name, norm_scaling, draw):
    for (tokens, *sizes), length in itertools.product(SIZES, LENGTHS):
        drawn = draw(learned_spec(name, norm_scaling), tokens=(tokens,), sizes=tuple(sizes), length=length)
        assert drawn.update.path == "fused"
        numbers = list(drawn.update.parameters())
        names = [name for name, _ in drawn.update.named_parameters()]
        base = torch.randn(tokens, sizes[1], dtype=torch.float64, requires_grad=True)

        def evaluate(base, x, A, B, *values, update=drawn.update, names=names):
            arguments = {"base": base, "scaling": 1.7}
            state = dict(zip(names, values, strict=True))
            return torch.func.functional_call(update, state, (x, A, B), arguments)

        leaves = (base, *drawn.requires_grad(), *numbers)
        assert gradcheck(evaluate, leaves, eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=True)


LAWS = {
    "hyperbolic": Lorentz.radial_law,
    "ball": Poincare.radial_law,
    "spherical": Sphere.radial_law,
    "round": ROUND,
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_law_is_consistent_with_itself(law):
    a = torch.linspace(0.01, 1.5, 50, dtype=torch.float64).requires_grad_()
    (phi_slope,) = torch.autograd.grad(law.phi(torch, a).sum(), a)
    torch.testing.assert_close(law.phi_slope(torch, a), phi_slope)
    z = law.phi(torch, a).detach().requires_grad_()
    torch.testing.assert_close(law.psi(torch, z), a)
    (psi_slope,) = torch.autograd.grad(law.psi(torch, z).sum(), z)
    torch.testing.assert_close(law.psi_slope(torch, z), psi_slope)
    for function in (law.phi, law.phi_slope):
        ours = torch.from_numpy(function(np, a.detach().numpy()))
        torch.testing.assert_close(ours, function(torch, a.detach()), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("norm_scaling", list(NORM_SCALINGS))
def test_numpy_and_torch_give_the_same_numbers(name, norm_scaling, draw, monkeypatch):
    def everything(tokens):
        drawn = draw(learned_spec(name, norm_scaling), tokens=(tokens,), length=1.5)
        leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
        return [drawn().detach(), *torch.autograd.grad(drawn().square().sum(), leaves)]

    ours = [*everything(3), *everything(9)]
    for module in (fused, fused_function):
        monkeypatch.setattr(module, "backend", lambda x: torch)
    torch.testing.assert_close(ours, [*everything(3), *everything(9)], rtol=1e-10, atol=1e-12)


def test_few_and_many_tokens_agree(draw):
    drawn = draw(HYPLORA, tokens=(40,))
    together = drawn()
    one_by_one = torch.cat([drawn.update(row[None], drawn.A, drawn.B) for row in drawn.x])
    torch.testing.assert_close(together, one_by_one, rtol=1e-13, atol=1e-14)


def saved_bytes(layer, x):
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_keeps_twenty_bytes_a_token_beside_what_lora_keeps(dtype):
    tokens, width, rank = 256, 64, 4
    x = torch.randn(tokens, width, dtype=dtype)
    hyplora = ManifoldLoRA.from_spec(HYPLORA, width, width, rank).to(dtype)
    rank_wide = tokens * rank * x.element_size()
    weights = 2 * width * rank * x.element_size()
    lora = x.nbytes + rank_wide + weights
    numbers = 8 * (rank * rank + 8)
    assert saved_bytes(hyplora, x) <= lora + 20 * tokens + numbers


def test_a_gradient_is_computed_only_where_it_is_asked_for(draw):
    drawn = draw(HYPLORA, tokens=(9,))
    drawn.x.requires_grad_()
    (gradient,) = torch.autograd.grad(drawn().sum(), drawn.x)
    assert gradient.isfinite().all()
    with torch.no_grad():
        assert drawn().grad_fn is None


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("norm_scaling", ["learned", "released", "unit"])
@pytest.mark.parametrize("length", [0.7, 9.0], ids=["below the limit", "beyond"])
def test_second_derivatives_are_those_of_finite_differences(name, norm_scaling, length, draw):
    drawn = draw(learned_spec(name, norm_scaling), tokens=(3,), sizes=(4, 5, 3), length=length)
    numbers = list(drawn.update.parameters())
    names = [name for name, _ in drawn.update.named_parameters()]

    def evaluate(x, A, B, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(drawn.update, state, (x, A, B))

    leaves = (*drawn.requires_grad(), *numbers)
    assert torch.autograd.gradgradcheck(evaluate, leaves, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_norm_of_half_precision_rows_is_accumulated_in_float32(dtype):
    x = torch.randn(600, 33, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.testing.assert_close(row_norm(x)[:, 0], x.double().norm(dim=-1), rtol=3e-7, atol=0)


def test_the_branch_for_few_tokens_ends_at_the_rank():
    B = torch.zeros(5, 3)
    assert fused_function.fewer_tokens_than_rank(torch.zeros(3, 2), B)
    assert not fused_function.fewer_tokens_than_rank(torch.zeros(4, 2), B)


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("tokens", [2, 40])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_sum_written_over_the_base_output_is_the_sum(name, tokens, frozen, draw):
    drawn = draw(learned_spec(name, "learned"), tokens=(tokens, 3))
    x = drawn.x.detach().requires_grad_(not frozen)
    W = torch.randn(drawn.B.shape[0], x.shape[-1], dtype=x.dtype)
    leaves = [*([] if frozen else [x]), drawn.A.requires_grad_(), drawn.B.requires_grad_()]

    def everything(in_place):
        base = torch.nn.functional.linear(x, W)
        assert fused.may_be_overwritten(base)
        y = drawn.update(x, drawn.A, drawn.B, base=base, scaling=1.5, in_place=in_place)
        assert (y.data_ptr() == base.data_ptr()) == in_place
        return [y.detach().clone(), *torch.autograd.grad(y.square().sum(), leaves)]

    torch.testing.assert_close(everything(True), everything(False), rtol=1e-13, atol=1e-14)


def test_a_view_is_never_written_over(draw):
    drawn = draw(HYPLORA, tokens=(9,))
    whole = torch.zeros(2, 9, drawn.B.shape[0], dtype=drawn.x.dtype)
    drawn.update(drawn.x, drawn.A, drawn.B, base=whole[0], in_place=True)
    assert not whole.any()


def test_a_parameter_that_the_law_does_not_read_has_no_gradient(draw):
    class Wider(Learned):
        def __init__(self, in_features):
            super().__init__(in_features)
            self.unread = torch.nn.Parameter(torch.zeros(1))

    drawn = draw(HYPLORA, tokens=(9,))
    drawn.update.norm_scaling = Wider(drawn.x.shape[-1])
    scaling = drawn.update.norm_scaling
    message = torch.autograd.grad(drawn().sum(), [scaling.log_scale, scaling.unread], allow_unused=True)
    assert message[0].abs() > 0
    assert message[1] is None
