"""c of a server's tables is c of the layer itself: every arm, mixed slots, merged layers, numpy and torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.adapters.fast.numbers import row_norm
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.serving.gain import served_gain
from manifold_lora.models.serving.slots import Batch, SlotGains

HALF = {"share": 0.5, "name": "lorentz"}
N, M, RANK, SLOTS = 12, 7, 3, 4
ARMS = {
    "lora": {"manifold": "euclidean", "norm_scaling": "identity"},
    "tangent": {"manifold": "lorentz", "transform": "tangent", "norm_scaling": "released"},
    "tangent unit": {"manifold": "lorentz", "transform": "tangent", "norm_scaling": "unit"},
    "lorentz": {"manifold": "lorentz", "curvature": {"mode": "learned", "kappa": -0.7}},
    "no limit": {"manifold": "lorentz", "norm_scaling": "identity", "max_angle": "inf"},
    "poincare": {"manifold": "poincare", "norm_scaling": "fixed"},
    "sphere": {"manifold": "sphere", "curvature": 0.5, "norm_scaling": "unit"},
    "ball": {"manifold": "stereographic", "curvature": -1.0, "norm_scaling": "released"},
    "token": {"manifold": "lorentz", "curvature": {"mode": "token"}},
    "token unit": {"manifold": "sphere", "curvature": {"mode": "token"}, "norm_scaling": "unit"},
}


def layer(arm, seed=0):
    """An update with every number of its geometry moved, and its A and B."""
    update = ManifoldUpdate.from_spec(AdapterSpec.parse(ARMS[arm]), N, M, RANK)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    A, B = (torch.randn(size, generator=generator) for size in ((RANK, N), (M, RANK)))
    return update, A, B


def tables(slices=1, device=None):
    gains = SlotGains(slices, SLOTS, 5, torch.device("cpu"))
    if device == "torch":
        # What another device than the CPU would do, on this one.
        gains.xp = torch
    return gains


def padded(u):
    return torch.nn.functional.pad(u, (0, 5 - RANK))


@given(st.sampled_from(list(ARMS)), st.floats(-3, 2), st.integers(0, 99), st.sampled_from(["numpy", "torch"]))
def test_a_gain_is_the_layers_own(arm, log_size, seed, kind):
    update, A, B = layer(arm, seed)
    x = torch.randn(6, N, generator=torch.Generator().manual_seed(seed)) * 10**log_size
    gains = tables(device=kind)
    gains.put(2, [served_gain(update, B, x.dtype)])
    u = x @ A.T
    c = gains.of(Batch(torch.full((6,), 2)), row_norm(x), padded(u)[None])[0]
    with torch.no_grad():
        wanted = update(x, A, B)
    torch.testing.assert_close(c * u @ B.T, wanted, rtol=2e-5, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_batch_of_all_arms_and_of_the_base(kind):
    updates = [layer(arm, seed) for seed, arm in enumerate(("lorentz", "sphere", "token"))]
    slots = torch.tensor([0, 3, -1, 1, 2, 0, 1, -1])
    x = torch.randn(8, N) * 3
    gains = tables(slices=2, device=kind)
    for slot, (update, _, B) in enumerate(updates):
        gains.put(slot, [served_gain(update, B, x.dtype), None])
    gains.put(3, [None, None])
    u = torch.stack([x @ updates[max(int(slot), 0) % 3][1].T for slot in slots])[range(8), range(8)]
    c = gains.of(Batch(slots), row_norm(x), padded(torch.stack([u, u])))
    for token, slot in enumerate(slots.tolist()):
        if slot in (-1, 3):
            assert c[0, token] == (0 if slot == -1 else 1)
            continue
        update, A, B = updates[slot]
        with torch.no_grad():
            torch.testing.assert_close(
                c[0, token] * u[token] @ B.T, update(x[token], A, B), rtol=2e-5, atol=1e-6
            )
        assert c[1, token] == 1


def test_a_slot_forgets_what_it_held():
    update, _, B = layer("lorentz")
    gains = tables()
    gains.put(1, [served_gain(update, B, torch.float32)])
    assert gains.curved == {1}
    gains.put(1, [None])
    assert gains.curved == set()
    assert (gains.of(Batch(torch.tensor([1, 1])), torch.ones(2, 1).double(), torch.ones(1, 2, 5)) == 1).all()


def test_the_direction_that_b_almost_kills_keeps_its_gain():
    # abs(B u) of a B of condition 1e6: through B^T B in float32 nothing of it would be left.
    update, A, _ = layer("lorentz")
    B = torch.linalg.qr(torch.randn(M, RANK, dtype=torch.float64)).Q @ torch.diag(
        torch.tensor([1e3, 1.0, 1e-3]).double()
    )
    B = B.float()
    root = served_gain(update, B, torch.float32).root
    u = torch.tensor([0.0, 0.0, 1.0])
    assert torch.linalg.vector_norm(root @ u) == pytest.approx(
        float((B.double() @ u.double()).norm()), rel=1e-5
    )
    assert A.shape == (RANK, N)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"manifold": "lorentz", "transform": "boost"}, "boost on lorentz"),
        ({"manifold": "lorentz", "transform": "norm_blind"}, "normblind on lorentz"),
        ({"manifold": "lorentz", "transform": "power"}, "power on lorentz"),
        ({"manifold": "lorentz", "token_norms": "shuffled"}, "shuffled"),
        (
            {"manifold": {"name": "stereographic", "curvature": {"mode": "free", "kappa": 0.1}}},
            "direct on stereo",
        ),
        (
            {
                "manifold": {
                    "name": "product",
                    "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "sphere"}],
                }
            },
            "direct on product",
        ),
    ],
    ids=str,
)
def test_what_two_lengths_do_not_decide_is_refused_by_name(parts, named):
    update = ManifoldUpdate.from_spec(AdapterSpec.parse(parts), N, M, RANK)
    with pytest.raises(ManifoldLoraError, match=named):
        served_gain(update, torch.zeros(M, RANK), torch.float32)
