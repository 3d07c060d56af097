"""A model that transformers runs tensor-parallel is refused, in two real processes; FSDP2's is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_shards_of_layers_are_refused_before_a_module_is_touched(model_folder, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script, output = str(Path(__file__).with_name("tensor_parallel.py")), tmp_path / "found.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [script, str(model_folder("llama")), str(output)]
    subprocess.run([*command, *arguments], check=True, env=environment, timeout=280)
    found = json.loads(output.read_text())
    assert found["weight"] == "DTensor"
    for method in ("manifold", "bottleneck"):
        assert found[method].startswith("target module: got 'model.layers.0."), found[method]
        assert "the norm of its input would be local" in found[method]
    assert found["fsdp2"] == "adapted"
