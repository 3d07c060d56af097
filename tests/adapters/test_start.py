"""At the start the adapted model is the base model, and B learns as LoRA's does, token by token faster."""

import torch

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.spec import BOOST
from manifold_lora.manifolds.registry import is_radial

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def test_the_output_starts_as_the_base_to_the_last_bit(spec):
    torch.manual_seed(0)
    for dtype in DTYPES:
        layer = ManifoldLoRA.from_spec(spec, 8, 6, 4, alpha=16).to(dtype)
        lengths = torch.tensor([0.0, 1e-3, 1.0, 30.0, 1e4])[:, None, None]
        x = (torch.randn(5, 3, 8) * lengths / 8**0.5).to(dtype)
        assert torch.equal(layer(x), layer.base(x)), dtype
        assert torch.equal(layer.delta(x), torch.zeros(5, 3, 6, dtype=dtype)), dtype


def test_the_first_gradient_of_B_is_loras_times_the_gain_of_each_token(spec, draw):
    drawn = draw(spec, tokens=(9,), columns=False, length=1.5)
    B = torch.zeros_like(drawn.B).requires_grad_()
    upstream = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(drawn.update(drawn.x, drawn.A, B), B, upstream)
    gain = drawn.update.gain(drawn.x, drawn.A, B)
    assert gain.isfinite().all()
    assert (gain > 0).all()
    if not is_radial(spec.manifold.name):
        # A product bends each part of a token by its own factor, a half-space also turns it: no one number a
        # token is claimed.
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
        return
    expected = (upstream * gain).T @ (drawn.x @ drawn.A.T)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-12)


def test_every_learned_number_has_a_finite_gradient_at_the_start_and_after(spec, draw):
    for B_scale in (0.0, 1.0):
        drawn = draw(spec, columns=bool(B_scale))
        drawn.B = drawn.B * B_scale
        learned = [*drawn.requires_grad(), *drawn.update.parameters()]
        gradients = torch.autograd.grad(drawn().square().sum() + drawn().sum(), learned)
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_boosts_time_columns_start_at_zero_and_learn(draw):
    drawn = draw(BOOST, columns=False)
    time_A, time_B = drawn.update.transform.time_A, drawn.update.transform.time_B
    assert not time_A.any()
    assert not time_B.any()
    by_A, by_B = torch.autograd.grad(drawn().sum(), [time_A, time_B])
    assert by_A.abs().min() > 0
    assert by_B.abs().min() > 0
