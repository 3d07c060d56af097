"""The Triton path without a GPU: chosen where it should be, right in the interpreter, compiled for sm_90."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from manifold_lora.adapters.fast import choice as kernels
from manifold_lora.adapters.spec import HYPLORA

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
# What a program may have on every processor that the kernels are chosen for: sm_86 and sm_89 have least.
SHARED_MEMORY = 99 * 1024


def run(*command, **environment):
    """A Python process of its own: Triton reads its settings as it is imported."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_DEFAULT_FP_FUSION": "1", **environment}
    surroundings["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_update_asks_of_the_device_is_there():
    """The module is imported where there is Triton alone: its names are asked of an object, by no import."""
    asked = re.findall(r"on_device\.(\w+)\(", (ROOT / "adapters/fast/function.py").read_text())
    written = ast.parse((ROOT / "adapters/cuda/update.py").read_text()).body
    assert set(asked) == {"serves", "update"}
    assert set(asked) <= {node.name for node in written if isinstance(node, ast.FunctionDef)}


@needs_triton
def test_the_interpreter_agrees_with_the_torch_path():
    message = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "triton_interpreted.py")),
        TRITON_INTERPRET="1",
    )
    assert " passed" in message
    assert "skipped" not in message


@needs_triton
def test_every_launch_compiles_and_fits_a_processor(tmp_path):
    message = run(str(HERE / "triton_compiled.py"), "90", TRITON_CACHE_DIR=str(tmp_path))
    launches = [json.loads(line) for line in message.splitlines()]
    assert {launch["kernel"] for launch in launches} == {"project", "cross", "gains", "slopes", "pull_back"}
    assert {launch["dtype"] for launch in launches} == {"torch.bfloat16", "torch.float32"}
    assert all(launch["shared"] <= SHARED_MEMORY for launch in launches)
    # sin and cos have a table of 40 bytes; what else is on the stack did not fit into registers.
    assert all(launch["STACK"] <= 64 for launch in launches)


class OnDevice:
    """As much of a CUDA tensor as the choice looks at."""

    is_cuda, device = True, torch.device("cuda", 0)

    def __init__(self, *shape, dtype=torch.bfloat16):
        self.shape, self.dtype = shape, dtype


@pytest.fixture
def choice(monkeypatch):
    """What is chosen for x, A and B of a device that has Triton; a sentinel for its module."""
    monkeypatch.setattr(kernels, "_device_serves", lambda device: True)
    monkeypatch.setattr(kernels, "_module", lambda: "triton")
    monkeypatch.setattr(kernels, "_is_plain", lambda tensor: True)
    return lambda tokens=64, rank=8, **kind: kernels.fused_for(
        OnDevice(tokens, 32, **kind), OnDevice(rank, 32, **kind), OnDevice(16, rank, **kind)
    )


def test_a_cuda_batch_takes_triton_unless_asked_otherwise(choice, monkeypatch):
    assert choice() == "triton"
    with kernels.torch_only():
        assert choice() is None
    assert choice() == "triton"
    monkeypatch.setenv(kernels.SWITCH, "0")
    assert choice() is None


def test_what_the_kernels_are_not_written_for_takes_torch(choice, monkeypatch):
    assert choice(tokens=9, rank=8) == "triton"
    assert choice(tokens=8, rank=8) is None
    assert choice(tokens=300, rank=256) == "triton"
    assert choice(tokens=300, rank=257) is None
    assert choice(dtype=torch.float64) is None
    assert kernels.fused_for(OnDevice(64, 32), OnDevice(8, 32, dtype=torch.float32), OnDevice(16, 8)) is None
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert choice() is None


def test_a_subclass_of_tensor_takes_torch(monkeypatch):
    class Marked(torch.Tensor):
        pass

    assert kernels._is_plain(torch.nn.Parameter(torch.ones(1)))
    assert not kernels._is_plain(torch.ones(1).as_subclass(Marked))


def test_the_processor_never_meets_triton(draw):
    drawn = draw(HYPLORA, tokens=(9,), dtype=torch.float32)
    drawn()
    assert kernels.fused_for(drawn.x, drawn.A, drawn.B) is None
    assert "manifold_lora.adapters.cuda.update" not in sys.modules
