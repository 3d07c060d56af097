"""Arms whose rank space is computed again in the backward: what is kept, and by whom it may be kept."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from manifold_lora.adapters import ManifoldUpdate
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.experiments.bench.memory import saved_bytes

PARTS = [
    {"share": 0.5, "name": "lorentz", "curvature": {"kappa": -1.0, "mode": "learned"}},
    {"share": 0.3, "name": "poincare", "curvature": -0.5},
    {"share": 0.2, "name": "euclidean"},
]
LEARNED = {"kappa": -0.7, "mode": "learned"}
ARMS = {
    "product": {"manifold": {"name": "product", "parts": PARTS}, "norm_scaling": "learned"},
    "boost": {"manifold": {"name": "lorentz", "curvature": LEARNED}, "transform": "boost"},
    "token": {"manifold": {"name": "lorentz", "curvature": {"kappa": -0.7, "mode": "token"}}},
    "power": {"manifold": {"name": "lorentz", "curvature": LEARNED}, "transform": "power"},
}


def gradients(arm, run):
    """Of x, A, B and all that is learned, for ``run(update, x, A, B)``."""
    torch.manual_seed(0)
    update = ManifoldUpdate.from_spec(AdapterSpec.parse(ARMS[arm]), 20, 10, 5)
    x, A, B = (torch.randn(*size).div(3).requires_grad_() for size in ((2, 6, 20), (5, 20), (10, 5)))
    with torch.no_grad():
        for one in update.parameters():
            one.add_(0.1 * torch.randn_like(one))
    leaves = [x, A, B, *update.parameters()]
    return torch.autograd.grad(run(update, x, A, B).square().sum(), leaves)


@pytest.mark.parametrize("arm", ARMS)
def test_checkpoints_and_offload_lose_no_gradient(arm) -> None:
    def offloaded(update, *inputs):
        with torch.autograd.graph.save_on_cpu():
            return update(*inputs)

    plain = gradients(arm, lambda update, *inputs: update(*inputs))
    assert all(bool(one.any()) for one in plain)
    for run in (offloaded, lambda update, *inputs: checkpoint(update, *inputs, use_reentrant=False)):
        torch.testing.assert_close(gradients(arm, run), plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("arm", "most"), [("product", 3 * 8), ("boost", 28), ("token", 44)])
def test_what_is_kept_of_a_token(arm, most) -> None:
    update = ManifoldUpdate.from_spec(AdapterSpec.parse(ARMS[arm]), 20, 10, 5)
    x, A, B = (torch.randn(*size).requires_grad_() for size in ((64, 20), (5, 20), (10, 5)))
    more = torch.randn(128, 20).requires_grad_()
    kept = [saved_bytes(torch.nn.Identity(), partial(update, tokens, A, B)) for tokens in (x, more)]
    # x itself and abs(x) of each part, with A x of one part; six numbers of a token with its own curvature.
    assert (kept[1] - kept[0]) / 64 <= 20 * 4 + most


@pytest.mark.parametrize("arm", ARMS)
def test_parameters_that_stand_in_have_the_gradient(arm) -> None:
    """``functional_call`` takes them away again before the backward."""

    def run(update, *inputs):
        others = {name: one * 1.0 for name, one in update.named_parameters()}
        return torch.func.functional_call(update, others, inputs)

    plain = gradients(arm, lambda update, *inputs: update(*inputs))
    torch.testing.assert_close(gradients(arm, run), plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("arm", ["product", "boost"])
def test_second_derivatives(arm) -> None:
    torch.manual_seed(0)
    update = ManifoldUpdate.from_spec(AdapterSpec.parse(ARMS[arm]), 7, 6, 3).double()
    x, A, B = (
        torch.randn(*size, dtype=torch.float64).div(3).requires_grad_() for size in ((4, 7), (3, 7), (6, 3))
    )
    assert torch.autograd.gradgradcheck(lambda *inputs: update(*inputs), (x, A, B), atol=1e-6)


def test_a_product_equals_its_parts_by_themselves() -> None:
    """A block-diagonal adapter of a product is one adapter for each part."""
    spec = {"manifold": {"name": "product", "parts": [{**part, "share": 1.0} for part in PARTS[:2]]}}
    spec["norm_scaling"] = "identity"
    torch.manual_seed(0)
    x = torch.randn(5, 8, dtype=torch.float64) / 3
    A, B = torch.zeros(4, 8, dtype=torch.float64), torch.zeros(6, 4, dtype=torch.float64)
    A[:2, :4], A[2:, 4:], B[:3, :2], B[3:, 2:] = (
        torch.randn(*size, dtype=torch.float64) for size in ((2, 4), (2, 4), (3, 2), (3, 2))
    )
    whole = ManifoldUpdate.from_spec(AdapterSpec.parse(spec), 8, 6, 4).double()
    assert whole.path == "rank_space"
    pieces = ((slice(4), slice(2), slice(3)), (slice(4, 8), slice(2, 4), slice(3, 6)))
    halves = []
    for part, (cut, rank, rows) in zip(PARTS[:2], pieces, strict=True):
        alone = {**spec, "manifold": {key: value for key, value in part.items() if key != "share"}}
        update = ManifoldUpdate.from_spec(AdapterSpec.parse(alone), 4, 3, 2).double()
        halves.append(update(x[:, cut], A[rank, cut], B[rows, rank]))
    torch.testing.assert_close(whole(x, A, B), torch.cat(halves, -1), rtol=1e-12, atol=1e-12)
