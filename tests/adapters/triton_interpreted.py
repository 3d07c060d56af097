"""The Triton path in Triton's interpreter, against the torch path in float64; run by test_triton.py.

TRITON_INTERPRET has to be set before Triton is imported, and nothing else of a test run may see it.
"""

import math

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from manifold_lora.adapters.cuda import functions as triton_functions
from manifold_lora.adapters.cuda import launch as triton_launch
from manifold_lora.adapters.cuda import update as triton_update
from manifold_lora.adapters.fast import choice as kernels
from manifold_lora.adapters.fast import function as fused_function
from manifold_lora.adapters.fast import fused
from manifold_lora.adapters.fast.scalars import Chart
from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.conformal import BALL, ROUND
from manifold_lora.manifolds.lorentz import HYPERBOLIC
from manifold_lora.manifolds.sphere import SPHERICAL

# numpy's, which the interpreter computes with: rows that no token owns, and infinities meant to be.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LAWS = {"hyperbolic": HYPERBOLIC, "ball": BALL, "spherical": SPHERICAL, "round": ROUND}
# Tokens, in, out, rank: none a multiple of a tile; one block and several.
SIZES = [(37, 70, 45, 5), (81, 150, 20, 17)]
# The interpreter cuts bfloat16 off where a processor rounds: twice the error.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
EDGE = 1 - 4 * torch.finfo(torch.float32).eps


@pytest.fixture(autouse=True)
def _interpreting():
    assert triton.knobs.runtime.interpret


class Batch:
    """Random inputs, rounded to a dtype and then given to both paths."""

    def __init__(self, profile, unit, dtype=torch.float32, sizes=SIZES[0], size_of_B=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        tokens, n, m, rank = sizes

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.profile, self.unit, self.dtype = LAWS[profile], unit, dtype
        self.base, self.x = normal(tokens, m).to(dtype), (normal(tokens, n) / n**0.5).to(dtype)
        self.A, self.B = (normal(rank, n) / n**0.5).to(dtype), (normal(m, rank) * size_of_B).to(dtype)
        self.upstream = normal(tokens, m).to(dtype)
        self.constants, self.scaling, self.lay = (1.3, 0.9, 1.1), 1.7, lambda leaf: leaf
        self.limit = 3.0

    def leaves(self, dtype):
        given = (self.base, self.x, self.A, self.B)
        return [self.lay(tensor.detach().to(dtype)).requires_grad_() for tensor in given]

    def chart(self, constants):
        edge = EDGE if self.profile.bounded else math.inf
        limit = min(self.limit, self.profile.turn)
        return Chart(self.profile, constants[0], constants[1] if self.unit else None, edge, limit)

    def results(self, module, dtype):
        """(update, gradients of base, x, A, B and the three constants)."""
        constants = [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in self.constants]
        leaves = self.leaves(dtype)
        gain = None if self.unit else constants[2]
        update = module.update(*leaves, self.chart(constants), gain, self.scaling)
        used = [*leaves, constants[0], constants[1] if self.unit else constants[2]]
        return [update.detach(), *torch.autograd.grad(update, used, self.upstream.to(dtype))]

    def errors(self):
        """Of the Triton path in the batch's dtype beside the torch path in float64, result by result."""
        ours = self.results(triton_update, self.dtype)
        exact = self.results(fused_function, torch.float64)
        assert all(a.dtype == (self.dtype if a.numel() > 1 else torch.float64) for a in ours)
        return [float((a.double() - b).norm() / b.norm()) for a, b in zip(ours, exact, strict=True)]


@triton.jit
def _elementwise(x_ptr, out_ptr, count, NAME: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    if NAME == "expm1":
        y = triton_functions.expm1(x)
    elif NAME == "log1p":
        y = triton_functions.log1p(x)
    else:
        y = triton_functions.asin(x)
    tl.store(out_ptr + at, y, mask=at < count)


@pytest.mark.parametrize(("name", "exact"), [("expm1", np.expm1), ("log1p", np.log1p), ("asin", np.arcsin)])
def test_elementary_functions_are_right_to_the_last_digits(name, exact):
    small = torch.logspace(-20, -1e-9, 500, dtype=torch.float64)
    large = torch.logspace(0, 2, 100, dtype=torch.float64)
    x = torch.cat([torch.zeros(1), -small, small] if name == "asin" else [torch.zeros(1), small, large])
    x = torch.cat([x, torch.tensor([math.nan], dtype=torch.float64)]).double()
    out = torch.empty_like(x)
    _elementwise[(1,)](x, out, x.numel(), name, 2048)
    torch.testing.assert_close(out, torch.from_numpy(exact(x.numpy())), rtol=1e-15, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("unit", [False, True], ids=["plain", "unit"])
@pytest.mark.parametrize("profile", list(LAWS))
def test_values_and_gradients_are_the_torch_paths(profile, unit, dtype, record_property):
    sizes = SIZES if dtype == torch.float32 else SIZES[:1]
    errors = [Batch(profile, unit, dtype, size, 0.3).errors() for size in sizes]
    record_property("errors", errors)
    tensors = [error for one in errors for error in one[:5]]
    assert max(tensors) < TOLERANCES[dtype]
    # A constant's gradient is a sum of terms of both signs: rounding of u alone moves it this much.
    assert max(error for one in errors for error in one[5:]) < 10 * TOLERANCES[dtype]


@pytest.mark.parametrize("unit", [False, True], ids=["plain", "unit"])
@pytest.mark.parametrize("profile", list(LAWS))
def test_lengths_from_nothing_to_ten_thousand(profile, unit):
    batch = Batch(profile, unit)
    lengths = torch.tensor([0.0, 1e-4, 1e-2, 1.0, 10.0, 100.0, 1e3, 1e4])
    batch.x = torch.nn.functional.normalize(batch.x, dim=-1) * lengths.repeat(5)[: len(batch.x), None]
    ours, exact = (batch.results(*run) for run in _both())
    assert all(value.isfinite().all() for value in ours)
    # The last digits of a float32 length are whole radians on the sphere, and decide who is beyond an edge.
    steady = lengths.repeat(5)[: len(batch.x)] < (math.inf if profile == "hyperbolic" or unit else 2.0)
    for a, b in zip(ours[:3], exact[:3], strict=True):
        assert ((a.double() - b).norm(dim=-1) <= 2e-5 * b.norm(dim=-1))[steady].all()
    if steady.all():
        for a, b in zip(ours[3:5], exact[3:5], strict=True):
            assert (a.double() - b).norm() < 2e-5 * b.norm()


def _both():
    return (triton_update, torch.float32), (fused_function, torch.float64)


@pytest.mark.parametrize("profile", ["ball", "spherical"])
@pytest.mark.parametrize("size_of_A", [1.0, 30.0], ids=["after B", "before B"])
def test_tokens_at_the_edge_take_no_part_in_the_slopes(profile, size_of_A):
    batch = Batch(profile, False, size_of_B=50.0)
    batch.A = batch.A * size_of_A
    assert max(batch.errors()[:5]) < 5e-6


def test_a_bad_token_spoils_itself_and_the_weights():
    batch = Batch("hyperbolic", False)
    batch.x[3, 5] = math.nan
    update, _, dx, dA, dB, *constants = batch.results(triton_update, torch.float32)
    for rows in (update, dx):
        assert rows[3].isnan().all()
        assert rows[[*range(3), *range(4, 37)]].isfinite().all()
    assert all(value.isnan().any() for value in (dA, dB, *constants))


def test_the_first_step_from_a_zero_B():
    batch = Batch("hyperbolic", False, size_of_B=0.0)
    _, dbase, dx, dA, dB, *constants = batch.results(triton_update, torch.float32)
    exact = batch.results(fused_function, torch.float64)
    torch.testing.assert_close(dB.double(), exact[4], rtol=1e-5, atol=1e-6)
    assert torch.equal(dbase, batch.upstream)
    assert not any(value.any() for value in (dx, dA, *constants))


@pytest.mark.parametrize("wanted", range(4), ids=["base", "x", "A", "B"])
def test_a_gradient_alone_is_the_one_among_others(wanted):
    batch = Batch("ball", True, sizes=(40, 33, 20, 3))
    together = batch.results(triton_update, torch.float32)
    leaves = [leaf.requires_grad_(i == wanted) for i, leaf in enumerate(batch.leaves(torch.float32))]
    update = triton_update.update(*leaves, batch.chart(batch.constants), None, batch.scaling)
    (alone,) = torch.autograd.grad(update, leaves[wanted], batch.upstream)
    assert torch.equal(alone, together[1 + wanted])
    with torch.no_grad():
        quiet = triton_update.update(None, *leaves[1:], batch.chart(batch.constants), None, batch.scaling)
    torch.testing.assert_close(batch.base + quiet, update)


@pytest.mark.parametrize("way", ["rows apart", "transposed"])
def test_x_may_lie_in_memory_as_it_likes(way):
    batch = Batch("hyperbolic", False)
    expected = batch.results(triton_update, torch.float32)
    batch.lay = {
        "transposed": lambda leaf: leaf.T.contiguous().T,
        "rows apart": lambda leaf: torch.cat([leaf, leaf], 1)[:, : leaf.shape[1]],
    }[way]
    for ours, theirs in zip(batch.results(triton_update, torch.float32), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_weakest_direction_of_B_gets_its_own_gain():
    # In float32 the Gram matrix would hide the small singular value behind the large one's rounding.
    x, B = torch.tensor([[1e-9, 2.0]] * 3), torch.diag(torch.tensor([1e5, 1e-3]))
    update = triton_update.update(
        None, x, torch.eye(2), B, Chart(HYPERBOLIC, 1.0, None, math.inf, 3.0), None, 1.0
    )
    expected = torch.asinh(torch.sinh(torch.tensor(2.0)) * 1e-3 * torch.ones(3))
    torch.testing.assert_close(update[:, 1], expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("norm_scaling", list(NORM_SCALINGS))
def test_an_adapted_layer_is_the_same_on_the_device(norm_scaling, draw, monkeypatch):
    curvature = {"kappa": -0.6, "mode": "learned"}
    spec = {"manifold": "lorentz", "curvature": curvature, "norm_scaling": norm_scaling}

    def everything():
        drawn = draw(AdapterSpec.parse(spec), tokens=(3, 5), dtype=torch.float32)
        leaves = [*drawn.requires_grad(), *drawn.update.parameters()]
        update = drawn.update(drawn.x, drawn.A, drawn.B, base=torch.ones(3, 5, 6), scaling=1.7)
        return [update.detach(), *torch.autograd.grad(update.square().sum(), leaves)]

    expected, launches = everything(), []
    monkeypatch.setattr(fused, "backend", lambda x: torch)
    monkeypatch.setattr(kernels, "fused_for", lambda *inputs: launches.append(1) or triton_update)
    torch.testing.assert_close(everything(), expected, rtol=2e-5, atol=2e-6)
    assert launches


def test_scaling_of_zero_leaves_the_base():
    batch = Batch("hyperbolic", False)
    batch.scaling = 0.0
    update, *gradients = batch.results(triton_update, torch.float32)
    assert torch.equal(update, batch.base)
    assert not any(gradient.any() for gradient in gradients[1:])


def test_a_step_repeats_to_the_last_bit(monkeypatch):
    batch = Batch("hyperbolic", False, sizes=(200, 40, 20, 3))
    monkeypatch.setattr(triton_launch, "_processors", lambda device: 2)
    first, again = (batch.results(triton_update, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert max(batch.errors()) < 1e-5


def test_a_second_derivative_is_refused():
    batch = Batch("hyperbolic", False)
    leaves = batch.leaves(torch.float32)
    update = triton_update.update(*leaves, batch.chart(batch.constants), None, 1.0)
    with pytest.raises(ManifoldLoraError, match="rank_space"):
        torch.autograd.grad(update.sum(), leaves[1], create_graph=True)


def test_it_keeps_twenty_bytes_a_token_beside_what_lora_keeps():
    tokens, n, m, rank = sizes = (256, 64, 64, 4)
    batch, kept = Batch("hyperbolic", False, torch.bfloat16, sizes), {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        triton_update.update(*batch.leaves(torch.bfloat16), batch.chart(batch.constants), 1.0, 1.0)
    lora = 2 * (tokens * (n + rank) + rank * (n + m))
    assert sum(kept.values()) <= lora + 20 * tokens + 8 * (rank * rank + 3)
