"""R1: a writer killed -9 at any moment leaves the old result or the new one, never half of one."""

import json
import subprocess
import sys

from fault_drivers import ENVIRONMENT, HERE

from manifold_lora.experiments.results.atomic import sweep_temporaries
from manifold_lora.experiments.results.store import ResultStore


def _kill_writers(folder, kills, way):
    command = [sys.executable, str(HERE / "fault_writers.py"), str(folder), str(kills), "7", way]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_no_result_is_unreadable_and_a_plain_write_would_be(tmp_path, tally):
    kills = 200
    unreadable, left = _kill_writers(tmp_path / "atomic", kills, "atomic")
    torn, _ = _kill_writers(tmp_path / "plain", 20, "plain")
    assert torn > 0, "the kills are too gentle to show anything"
    results = ResultStore(tmp_path / "atomic").results
    assert left > 0
    assert len(sweep_temporaries(results)) == left
    tally(
        "R1",
        f"kill -9 while a result is written (plain writes: {torn} of 20 torn)",
        kills - unreadable,
        kills,
    )
