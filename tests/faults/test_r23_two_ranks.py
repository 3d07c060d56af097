"""R23: three steps on two ranks over gloo, data-parallel and sharded, give the losses of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_arms import EIGHT_ARMS

SCRIPT = Path(__file__).with_name("fault_ranks.py")


@pytest.mark.slow
def test_eight_arms_on_two_ranks(tmp_path: Path, tally) -> None:
    # Not `accelerate launch --cpu --num_processes 2`, which starts one process.
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(SCRIPT),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path), *EIGHT_ARMS], check=True, env=environment, timeout=900)
    found = json.loads((tmp_path / "found.json").read_text())
    for kind in ("ddp", "fully_shard"):
        equal = [found[f"{kind} {arm}"]["gap"] <= 1e-6 for arm in EIGHT_ARMS]
        tally("R23", f"{kind}: losses of three steps equal one process within 1e-6", sum(equal), 8)
    flat = sum(found[f"ddp {arm}"]["zero_dim"] == 0 for arm in EIGHT_ARMS)
    tally("R23", "arms without zero-dimensional parameters", flat, 8)
