"""torch.compile, vmap, jvp and autocast work on every operation of every geometry."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A fresh interpreter: shape checking of the test session and dynamo do not mix.
COMMON = """
import torch
from manifold_lora.manifolds import build_manifold

torch.set_num_threads(1)
PARTS = [{"share": 0.5, "name": "lorentz", "curvature": -0.5}, {"share": 0.5, "name": "sphere"}]
SPECS = ["euclidean", "lorentz", "poincare", "sphere", {"name": "stereographic", "curvature": 0.3},
         {"name": "product", "parts": PARTS}]


def operations(m):
    return {
        "expmap0": lambda v, w: m.expmap0(v),
        "logmap0": lambda v, w: m.logmap0(m.expmap0(v)),
        "lift": lambda v, w: m.coords(m.lift(v / 4)),
        "projx": lambda v, w: m.projx(m.expmap0(v)),
        "proju": lambda v, w: m.proju(m.expmap0(v), m.expmap0(w)),
        "inner": lambda v, w: m.inner(m.expmap0(v), m.expmap0(w), m.expmap0(w)),
        "egrad2rgrad": lambda v, w: m.egrad2rgrad(m.expmap0(v), m.expmap0(w)),
        "expmap": lambda v, w: m.expmap(m.expmap0(v), m.proju(m.expmap0(v), m.expmap0(w))),
        "logmap": lambda v, w: m.logmap(m.expmap0(v), m.expmap0(w)),
        "dist": lambda v, w: m.dist(m.expmap0(v), m.expmap0(w)),
        "norm": lambda v, w: m.norm(m.expmap0(v), m.logmap(m.expmap0(v), m.expmap0(w))),
        "transp": lambda v, w: m.transp(m.expmap0(v), m.expmap0(w), m.logmap(m.expmap0(v), m.expmap0(w))),
        "midpoint": lambda v, w: m.midpoint(m.expmap0(v), m.expmap0(w)),
        "transvect": lambda v, w: m.transvect(m.expmap0(v), m.expmap0(w), m.expmap0(v / 2)),
    }


torch.manual_seed(0)
v, w = torch.randn(2, 5, 4) * 0.3
checked = 0
"""

COMPILE = """
for m in [build_manifold(spec) for spec in SPECS]:
    for name, act in operations(m).items():
        for dtype in DTYPES:
            a, b = v.to(dtype), w.to(dtype)
            torch._dynamo.reset()
            got = torch.compile(act, fullgraph=True, backend=BACKEND)(a, b)
            torch.testing.assert_close(got, act(a, b), rtol=1e-5, atol=1e-6)
        checked += 1
"""

FUNC = """
for m in [build_manifold(spec) for spec in SPECS]:
    for name, act in operations(m).items():
        want = act(v, w)
        torch.testing.assert_close(torch.func.vmap(act)(v, w), want, rtol=1e-5, atol=1e-6)
        start = v.double().requires_grad_()
        direction = torch.randn_like(start)
        value, slope = torch.func.jvp(lambda a: act(a, w.double()), (v.double(),), (direction,))
        weight = torch.randn_like(value)
        result = act(start, w.double())
        if result.requires_grad:
            (grad,) = torch.autograd.grad((result * weight).sum(), start)
        else:
            grad = torch.zeros_like(start)
        torch.testing.assert_close((slope * weight).sum(), (grad * direction).sum(), rtol=1e-9, atol=1e-9)
        checked += 1
"""

AUTOCAST = """
for m in [build_manifold(spec) for spec in SPECS]:
    for name, act in operations(m).items():
        want = act(v, w)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(act(v, w), want, rtol=0, atol=0)
        checked += 1
"""


def run(body: str, settings: str = "", timeout: int = 280, geometries: int = 6) -> None:
    script = "\n".join((COMMON, settings, body, f"assert checked == {geometries} * 14, checked"))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("body", [FUNC, AUTOCAST], ids=["vmap-jvp", "autocast"])
def test_every_operation(body: str) -> None:
    run(body)


@pytest.mark.slow
def test_compile_in_one_graph() -> None:
    run(COMPILE, 'BACKEND, SPECS, DTYPES = "eager", ["lorentz"], [torch.float32]', geometries=1)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compile_every_geometry(backend: str) -> None:
    run(COMPILE, f"BACKEND, DTYPES = {backend!r}, [torch.float32, torch.float64]", timeout=3000)
