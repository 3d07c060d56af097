"""Products of matrices by the library that is quickest here: the oracle is float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.fast import products
from manifold_lora.adapters.fast.products import plus_product, product

sizes = st.sampled_from([1, 8, 33, 250])
needs_onednn = pytest.mark.skipif(not products._HERE, reason="no oneDNN, or no x86 processor")


def matrix(rows, columns, dtype, turned, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (columns, rows) if turned else (rows, columns)
    drawn = torch.randn(shape, generator=generator).to(dtype)
    return drawn.T if turned else drawn


@settings(max_examples=60)
@given(
    shape=st.tuples(sizes, sizes, sizes),
    turned=st.tuples(st.booleans(), st.booleans()),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_products_are_those_of_float64(shape, turned, dtype, seed):
    n, k, m = shape
    a, b = matrix(n, k, dtype, turned[0], seed), matrix(k, m, dtype, turned[1], seed + 1)
    c = matrix(n, m, dtype, False, seed + 2)
    with torch.no_grad():
        found, added = product(a, b), plus_product(c.clone(), a, b)
    exact = a.double() @ b.double()
    # Each rounding is at most of the sum of absolute values, and of the result where it is stored.
    bound = (k + 2) * torch.finfo(torch.promote_types(dtype, torch.float32)).eps * (
        a.double().abs() @ b.double().abs() + c.double().abs()
    ) + torch.finfo(dtype).eps * (exact.abs() + c.double().abs())
    assert ((found.double() - exact).abs() <= bound).all()
    assert ((added.double() - c.double() - exact).abs() <= 2 * bound).all()


@needs_onednn
@torch.no_grad()
def test_large_products_in_float32_are_onednns_and_no_others(monkeypatch):
    asked = []
    whole = torch.ops.mkldnn._linear_pointwise.default
    fake = type("Op", (), {"default": lambda *given: asked.append(given[0].shape) or whole(*given)})
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", fake)
    large, small = torch.ones(256, 64), torch.ones(8, 64)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        product(large, large.T)
    part = torch.ones(256, 96)[:, :64]
    for a in (small, large.double(), large.bfloat16(), part, large):
        assert np.allclose(product(a, a.T).double(), 64.0)
    assert asked == [(256, 64)]


def test_a_product_with_a_graph_has_a_gradient():
    a = torch.ones(256, 64, requires_grad=True)
    product(a, a.T).sum().backward()
    assert torch.equal(a.grad, torch.full_like(a, 512.0))
