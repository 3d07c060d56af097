"""The four ways to compute an update agree, values and gradients; ``general`` is the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.spec import HYPLORA
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import Poincare, Sphere, Stereographic
from manifold_lora.manifolds.lines import Lines

# At the edge of a bounded chart, 1 - z = 4 eps, one rounding moves a length by half of log(5/4) of 18, and a
# gradient by per cents: psi' is 1e15 there, and multiplies what rounding has left along the radius.
EDGE_VALUE, EDGE_GRADIENT = 0.02, 0.2


def results(drawn, path):
    learned = [*drawn.requires_grad(), *drawn.update.parameters()]
    base = torch.ones(drawn.x.shape[0], drawn.B.shape[0], dtype=drawn.x.dtype)
    value = drawn.update.use(path)(drawn.x, drawn.A, drawn.B, base=base, scaling=1.7)
    upstream = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad(value, learned, upstream, allow_unused=True)
    return [value, *(torch.zeros(1) if gradient is None else gradient for gradient in gradients)]


@torch.no_grad()
def room(drawn):
    """1 - |z|^2/R^2 of the token nearest to the edge of its chart: what a rounding of z is divided by."""
    m = drawn.update.manifold
    if not isinstance(m, Poincare | Lines | Sphere | Stereographic):
        return 1.0
    v = drawn.update.law(drawn.x).scale(drawn.x)
    z = m.coords(drawn.update.transform(m, m.expmap0(v), drawn.A, drawn.B))
    return float((1 - m.kappa.abs() * z.square().sum(-1)).min().clamp(1e-6, 1.0))


@settings(max_examples=4)
@given(tokens=st.sampled_from([9, 2]), exponent=st.floats(-3, 0.5), seed=st.integers(0, 99))
def test_paths_agree_in_float64(spec, draw, tokens, exponent, seed):
    drawn = draw(spec, tokens=(tokens,), length=10**exponent, seed=seed)
    clipped = drawn.update.clipped(drawn.x, drawn.A, drawn.B) > 0
    by_value, by_gradient = (EDGE_VALUE, EDGE_GRADIENT) if clipped else 2 * (1e-12 / room(drawn),)
    (value, *gradients) = results(drawn, "general")
    for path in drawn.update.paths():
        found, *slopes = results(drawn, path)
        agree([found], [value], by_value)
        agree(slopes, gradients, by_gradient)


def agree(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=tolerance, atol=tolerance * scale)


def test_the_default_is_the_cheapest_path(spec, draw):
    update = draw(spec).update
    assert update.path == update.paths()[0]
    assert update.paths()[-1] == "general"
    if spec.transform == "direct" and spec.manifold.name in (
        "lorentz",
        "poincare",
        "klein",
        "sphere",
    ):
        assert update.path == "fused"


def test_a_path_that_the_parts_do_not_have_is_refused(draw):
    with pytest.raises(ManifoldLoraError, match="path: got 'linear'; allowed: fused, rank_space, general"):
        draw(HYPLORA).update.use("linear")


def test_base_and_scaling_are_only_added_and_multiplied(spec, draw):
    drawn = draw(spec, tokens=(2, 3))
    base = torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    together = drawn.update(drawn.x, drawn.A, drawn.B, base=base, scaling=0.3)
    torch.testing.assert_close(together, base + 0.3 * drawn(), rtol=1e-13, atol=1e-14)
