"""The slow checks of the day: `.ci/run` has no time for all of them, so each day of the year has its group.

`python tests/rota.py` prints the day's group and the one that comes next, and runs its slow tests, at most
MINUTES long. `python tests/rota.py NAME` runs that group; a slow test that no group has fails
tests/test_rota.py.
"""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MINUTES = 20


class Group(NamedTuple):
    """Test files whose slow tests run on one day, and what is set for them."""

    files: tuple[str, ...]
    settings: dict[str, str] = {}  # noqa: RUF012 (a named tuple's field, never changed)
    # Which of their tests: the slow ones, or all.
    marks: str = "slow"


GROUPS = {
    "kills and clusters": Group(
        (
            "tests/faults/test_r02_killed_drivers.py",
            "tests/faults/test_r03_killed_workers.py",
            "tests/faults/test_r04_lost_node.py",
            "tests/faults/test_r05_failing_cells.py",
            "tests/faults/test_r34_time_and_death.py",
            "tests/experiments/sweeps/test_sweep.py",
        )
    ),
    "training that is killed and goes on": Group(("tests/faults/test_r07_killed_training.py",)),
    "eight arms": Group(
        (
            "tests/faults/test_r10_divergence.py",
            "tests/faults/test_r16_paths.py",
            "tests/faults/test_r17_same_cell_twice.py",
            "tests/faults/test_r23_two_ranks.py",
            "tests/models/test_two_ranks.py",
            "tests/models/test_training_scripts.py",
            "tests/models/test_tensor_parallel.py",
            "tests/models/test_saved_files.py",
            "tests/models/test_model_card.py",
        )
    ),
    "the same answers in every batch": Group(("tests/faults/test_r18_batch_size.py",)),
    "many drivers, no network, half a thousand cells": Group(
        (
            "tests/faults/test_r21_offline.py",
            "tests/faults/test_r22_shared_sweeps.py",
            "tests/faults/test_r25_soak.py",
            "tests/experiments/data/test_hub.py",
        )
    ),
    "statistics, ceilings, real norms": Group(
        (
            "tests/faults/test_r24_statistics.py",
            "tests/faults/test_r28_ceiling.py",
            "tests/faults/test_r30_real_norms.py",
            "tests/experiments/planted/test_positive_control.py",
            "tests/experiments/token_geometry/test_gromov.py",
            "tests/experiments/token_geometry/test_gromov_cost.py",
        )
    ),
    "geometry and compilers": Group(
        (
            "tests/manifolds/test_contract.py",
            "tests/manifolds/test_oracle.py",
            "tests/manifolds/test_transforms.py",
            "tests/manifolds/test_tutorial.py",
            "tests/adapters/test_compile.py",
            "tests/models/test_compile.py",
            "tests/experiments/commands/test_new.py",
            "tests/experiments/bench/test_bench_frames.py",
            "tests/experiments/settings/test_plugins.py",
            "tests/test_installed_plugin.py",
            "tests/test_public_names.py",
        )
    ),
    # 200 draws a test and eleven tests, others each time.
    "two thousand hostile files": Group(
        ("tests/faults/test_r26_hostile_files.py",), {"MANIFOLD_LORA_HOSTILE": "8"}, "slow or not slow"
    ),
}


def of_day(day: date) -> str:
    """The group of a day."""
    return list(GROUPS)[day.timetuple().tm_yday % len(GROUPS)]


def command(group: Group) -> list[str]:
    """The pytest that runs a group."""
    pytest = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--timeout", "900"]
    return [*pytest, "-m", group.marks, *group.files]


def main(arguments: list[str]) -> int:
    """Run a group; what pytest returns, or 124 where it took longer than MINUTES."""
    today = of_day(date.today())
    name = arguments[0] if arguments else today
    if name not in GROUPS:
        print(f"rota: no group {name!r}; there are {', '.join(GROUPS)}")
        return 2
    names = list(GROUPS)
    after = names[(names.index(name) + 1) % len(names)]
    print(f"rota: {name} ({names.index(name) + 1} of {len(names)}); next: {after}", flush=True)
    environment = {**os.environ, **GROUPS[name].settings}
    try:
        done = subprocess.run(
            command(GROUPS[name]), cwd=ROOT, env=environment, timeout=60 * MINUTES, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"rota: {name} took longer than {MINUTES} minutes")
        return 124
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
