"""R17: the same cell in two fresh processes gives the same record, items and weights; another seed others."""

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from fault_arms import EIGHT_ARMS
from fault_runs import difference, in_child, save_base

from manifold_lora.experiments.executors.fork_server import PRELOAD

SCRIPT = Path(__file__).with_name("fault_runs.py")


def run_twice(arms: list[str], base: Path, out: Path) -> tuple[int, int]:
    """How many arms came out equal in both processes, and how many differ by their seed.

    The processes hash strings differently and run the arms in opposite orders, so that neither the order of a
    set nor what ran before can pass for determinism.
    """
    once, again = ([f"{arm}:0" for arm in order] for order in (arms, arms[::-1]))
    other = [f"{arm}:1" for arm in arms]
    jobs = [(out / "once", "1", [*once, *other]), (out / "again", "2", again)]
    running = []
    for folder, hash_seed, names in jobs:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(SCRIPT), str(base), str(folder), *names]
        running.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in running] == [0, 0]
    equal = sum(difference(out / "once" / f"{arm}-0", out / "again" / f"{arm}-0") == 0.0 for arm in arms)
    differ = sum(losses(out / "once" / f"{arm}-0") != losses(out / "once" / f"{arm}-1") for arm in arms)
    return equal, differ


def losses(folder: Path) -> list[float]:
    return json.loads((folder / "record.json").read_text())["record"]["train"]["losses"]


@pytest.mark.slow
def test_eight_arms_in_fresh_interpreters(tmp_path: Path, tally) -> None:
    arms = list(EIGHT_ARMS)
    equal, differ = run_twice(arms, save_base(tmp_path / "base"), tmp_path)
    tally("R17", "8 arms in two fresh interpreters: same record, items, weights", equal, 8)
    tally("R17", "8 arms: another seed, another course of training", differ, 8)


def test_one_arm_in_two_processes(tmp_path: Path, tally) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    base = save_base(tmp_path / "base")
    _unread, steps = context.Pipe(duplex=False)
    seeds = {"once": 0, "again": 0, "other": 1}
    for name, seed in seeds.items():
        arguments = ("direct", base, tmp_path / name, steps, {"steps": 6, "seed": seed})
        process = context.Process(target=in_child, args=arguments)
        process.start()
        process.join()
    tally("R17", "direct twice", int(difference(tmp_path / "once", tmp_path / "again") == 0.0), 1)
    differs = losses(tmp_path / "once") != losses(tmp_path / "other")
    tally("R17", "direct with another seed", int(differs), 1)
