"""torch.compile in a process of its own: the shape checks of the other tests wrap what it would trace."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import torch
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.layer import ManifoldLoRA

for spec in {specs}:
    for tokens in (3, 32):
        torch._dynamo.reset()
        torch.manual_seed(0)
        layer = ManifoldLoRA.from_spec(AdapterSpec.parse(spec), 16, 12, 4)
        torch.nn.init.normal_(layer.lora_B)
        x = torch.randn(tokens, 16, requires_grad=True)
        leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
        compiled = torch.compile(layer, fullgraph=True, backend={backend!r})
        ours, plain = compiled(x), layer(x)
        torch.testing.assert_close(ours, plain)
        gradients = [torch.autograd.grad(y.sum(), leaves) for y in (ours, plain)]
        for mine, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), plain)
"""


def run(specs: list[object], backend: str) -> None:
    program = textwrap.dedent(PROGRAM).format(specs=specs, backend=backend)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_graph_has_no_breaks():
    run(["hyplora"], "aot_eager")


PRODUCT = {
    "name": "product",
    "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "euclidean"}],
}


@pytest.mark.slow
def test_a_product_is_compiled_twice_in_a_process_that_never_ran_it_eagerly():
    program = f"""
import torch
from manifold_lora.adapters.layer import ManifoldLoRA

for _ in range(2):
    layer = ManifoldLoRA(8, 6, 2, manifold={PRODUCT!r})
    torch.compile(layer, fullgraph=True, backend="eager")(torch.randn(3, 8))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_no_other_path_has_breaks():
    learned = {"manifold": {"name": "lorentz", "curvature": {"mode": "learned", "kappa": -1.0}}}
    unit = {"manifold": "poincare", "norm_scaling": "unit"}
    token = {"manifold": {"name": "sphere", "curvature": {"mode": "token"}}}
    run(
        [unit, token, "tangent", "boost", {**learned, "norm_scaling": "released"}, {"manifold": PRODUCT}],
        "aot_eager",
    )
