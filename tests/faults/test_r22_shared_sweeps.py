"""R22: eight drivers share a sweep: each cell is computed once; stale claims are taken over once."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest
from fault_drivers import contents, finish, start, sweep
from fault_jobs import note, notes

from manifold_lora.experiments.executors.base import Job, Limits
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.results.owner import Owner
from manifold_lora.experiments.sweeps.claims import Claims
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat

CELLS = 24


def _once(folder):
    counted = Counter(cell for cell, _ in notes(folder, "start"))
    return sum(times == 1 for times in counted.values())


def test_eight_drivers_compute_each_cell_once(tmp_path, tally):
    drivers = [start(tmp_path, "--cells", CELLS, "--seconds", 0.2, "--jobs", 2) for _ in range(8)]
    ends = [finish(driver) for driver in drivers]
    assert ends == [(0, "")] * 8
    assert len(contents(tmp_path)) == CELLS
    tally("R22", "8 drivers start the same sweep: cells computed once", _once(tmp_path), CELLS)


def test_a_failed_cell_is_not_tried_again_by_those_that_wait_for_it(tmp_path):
    flags = ("--cells", 6, "--seconds", 0.5, "--jobs", 1, "--raises", 0)
    drivers = [start(tmp_path, *flags) for _ in range(3)]
    assert [finish(driver)[0] for driver in drivers] == [1] * 3
    assert _once(tmp_path) == 6


def _dead_process():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from manifold_lora.experiments.results.owner import Owner; print(Owner.current().tag)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return Owner.parse(done.stdout.strip())


STALE = {
    "killed driver of this machine": (lambda me: _dead_process(), 0.0),
    "its number is another process's now": (lambda me: Owner(me.host, me.pid, me.started - 1000), 0.0),
    "silent driver of another machine": (lambda me: Owner("elsewhere", 1, 1), 1000.0),
    "driver that left no file": (None, 0.0),
    "driver whose file is damaged": ("{", 0.0),
}


def _plant(folder, owner, age):
    """A claim on a cell by a driver; ``age`` seconds since its last sign."""
    (folder / ".claims" / "cell").mkdir(parents=True)
    (folder / ".claims" / "cell" / "1").write_text("planted")
    (folder / ".drivers").mkdir()
    if owner is None:
        return
    path = folder / ".drivers" / "planted.json"
    path.write_text(owner if isinstance(owner, str) else json.dumps({**vars(owner), "work": "same"}))
    os.utime(path, (path.stat().st_mtime - age,) * 2)


def _takers(folder, count=8):
    """How many of ``count`` drivers that ask at the same moment get the cell."""
    ready, over, got = threading.Barrier(count), threading.Barrier(count), []

    def take():
        with DriverHeartbeat(folder, "same", 120) as driver:
            ready.wait()
            got.append(Claims(folder, driver).take("cell"))
            over.wait()

    threads = [threading.Thread(target=take) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(got)


def test_stale_claims_are_taken_over_by_exactly_one(tmp_path, tally):
    passed = 0
    for place, (owner, age) in enumerate(STALE.values()):
        folder = tmp_path / str(place)
        _plant(folder, owner(Owner.current()) if callable(owner) else owner, age)
        passed += _takers(folder) == 1
    tally("R22", "stale claims taken over, by one of 8 drivers", passed, len(STALE))


@pytest.mark.parametrize("owner", [Owner.current(), Owner("elsewhere", 1, 1)], ids=["here", "elsewhere"])
def test_a_living_drivers_claim_is_left_alone(tmp_path, owner):
    _plant(tmp_path, owner, 10.0)
    assert _takers(tmp_path) == 0


def test_a_sweep_goes_on_over_stale_claims(tmp_path):
    for cell in ("cell000", "cell003"):
        folder = tmp_path / ".claims" / cell
        folder.mkdir(parents=True)
        (folder / "4").write_text("planted")
    assert sweep(tmp_path, "--cells", 6)[0] == 0
    assert _once(tmp_path) == 6


def prepare_base(folder, cache, progress):
    """What every driver does first, with a base that is pre-trained in a second."""
    from dataclasses import replace

    from manifold_lora.experiments.tasks.taxonomy import Taxonomy
    from manifold_lora.experiments.training import pretrain

    class Sapling(Taxonomy):
        @property
        def base_spec(self):
            return replace(super().base_spec, hidden_size=16, layers=1, intermediate_size=16, steps=4)

    plain = pretrain._pretrain

    def counted(*arguments):
        note(folder, "trained", "base")
        plain(*arguments)

    pretrain._pretrain = counted
    return str(pretrain.ensure_base(Sapling(), cache))


@pytest.mark.slow
def test_eight_drivers_prepare_the_base_once(tmp_path, tally):
    import test_r22_shared_sweeps as named  # children find the job in a module

    arguments = (str(tmp_path), str(tmp_path / "cache"))
    jobs = [Job(str(place), named.prepare_base, arguments) for place in range(8)]
    outcomes = list(LocalExecutor(8, Limits(timeout=200), tmp_path / "logs").run(jobs))
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert len({outcome.value for outcome in outcomes}) == 1
    tally("R22", "8 processes want the same base: trained once", len(notes(tmp_path, "trained")), 1)
