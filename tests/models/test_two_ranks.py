"""Two ranks over gloo, data-parallel or sharded, train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_ddp_and_fully_shard_equal_one_process(tmp_path):
    # Not `accelerate launch --cpu --num_processes 2`, which starts one process.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = str(Path(__file__).with_name("two_ranks.py"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, script, str(tmp_path / "found.json")], check=True, env=environment, timeout=280)
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 20
    assert {name: gap for name, gap in found.items() if not gap <= 1e-6} == {}
