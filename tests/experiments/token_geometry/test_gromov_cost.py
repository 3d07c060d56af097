"""Time and memory as promised, each in a process of its own so that nothing else counts."""

import json
import subprocess
import sys

import pytest

MEASURE = """
import json, sys, time
from pathlib import Path
import numpy as np
from manifold_lora.experiments.token_geometry.delta.distances import pairwise
from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity
n, width, base, dtype = json.loads(sys.argv[1])
points = np.random.default_rng(0).normal(size=(n, width))
start = time.perf_counter()
found = hyperbolicity(pairwise(points, dtype=dtype), base)
seconds = time.perf_counter() - start
# Not ru_maxrss: a child starts with the high-water mark of the process that forked it.
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
print(json.dumps([found.relative, seconds, peak]))
"""


def measure(n, width, base=0, dtype="float64"):
    command = [sys.executable, "-c", MEASURE, json.dumps([n, width, base, dtype])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    return json.loads(done.stdout)


@pytest.mark.parametrize("width", [3, 384])
def test_1500_points_take_under_ten_seconds_and_200_mb(width):
    relative, seconds, megabytes = measure(1500, width)
    assert 0.1 < relative < 0.6
    assert seconds < 10
    assert megabytes < 200


@pytest.mark.slow
@pytest.mark.parametrize(("width", "base"), [(3, 0), (384, 0), (4096, 0)])
def test_5000_points_take_under_three_minutes(width, base):
    _, seconds, megabytes = measure(5000, width, base)
    assert seconds < 180
    assert megabytes < 1200


@pytest.mark.slow
def test_all_base_points_of_1500_take_under_three_minutes():
    _, seconds, megabytes = measure(1500, 384, "all")
    assert seconds < 180
    assert megabytes < 200
