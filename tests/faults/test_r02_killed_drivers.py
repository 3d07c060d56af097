"""R2: a driver killed -9 at any moment, and a rerun: the same bytes, and nothing done twice."""

import random
import signal
import subprocess
import sys
import time

import pytest
from fault_drivers import ENVIRONMENT, contents, finish, start, sweep, unreadable, wait_until
from fault_jobs import notes

from manifold_lora.experiments.results.store import ResultStore

CELLS = 12
FLAGS = ("--cells", CELLS, "--seconds", 0.1, "--jobs", 3)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_rerun_completes_what_a_killed_driver_left(tmp_path, tally, kills):
    assert sweep(tmp_path / "whole", *FLAGS)[0] == 0
    expected = contents(tmp_path / "whole")
    assert len(expected) == CELLS
    moments, passed, caught = random.Random(11), 0, 0
    for turn in range(kills):
        folder = tmp_path / str(turn)
        driver, after = start(folder, *FLAGS), moments.randrange(CELLS)
        wait_until(lambda folder=folder, after=after: len(notes(folder, "end")) >= after)
        time.sleep(moments.uniform(0, 0.15))
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        finished, before = set(contents(folder)), len(notes(folder, "start"))
        caught += 0 < len(finished) < CELLS
        code, said = sweep(folder, *FLAGS)
        again = {cell for cell, _ in notes(folder, "start")[before:]} & finished
        bad = unreadable(folder)
        # What a killed driver's cell wrote before it noticed is the same, and its temp file goes at once.
        passed += code == 0 and contents(folder) == expected and not again and not bad
        assert code == 0, said
    assert caught > 0
    tally("R2", "SIGKILL of the driver at a random moment, then a rerun", passed, kills)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_driver_that_is_asked_to_end_leaves_nothing_running_and_nothing_claimed(tmp_path, number):
    kept = signal.signal(number, signal.SIG_DFL)  # under nohup a driver would inherit that it is ignored
    driver = start(tmp_path, "--cells", 6, "--seconds", 5, "--jobs", 3)
    signal.signal(number, kept)
    wait_until(lambda: len(notes(tmp_path, "start")) == 3)
    began = time.monotonic()
    driver.send_signal(number)
    code, said = finish(driver)
    assert (code, said) == (130, "")
    assert time.monotonic() - began < 20
    time.sleep(0.1)
    assert notes(tmp_path, "end") == []
    assert list((tmp_path / ".drivers").iterdir()) == []


@pytest.mark.slow
def test_real_cells_of_a_killed_driver_equal_those_of_an_undisturbed_one(tmp_path, tally):
    from fault_runs import save_base

    base = save_base(tmp_path / "base")
    grid = "{arm: [lora, direct, gain-matched-lora], train.seed: [0, 1]}"
    flags = ["--task", "taxonomy", "--task.style", "equation", "--task.limit", "24", "--model", str(base)]
    flags += ["--adapter.rank", "2", "--train.steps", "2", "--evaluation.max-new-tokens", "2", "--grid", grid]
    command = [sys.executable, "-m", "manifold_lora.experiments.cli", "ablate", *flags]

    def run(folder, *more):
        places = ["--output", str(folder), "--cache", str(tmp_path / "cache"), *more]
        return subprocess.Popen(
            [*command, *places], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    assert finish(run(tmp_path / "whole"))[0] == 0
    store = ResultStore(tmp_path / "killed")
    driver = run(tmp_path / "killed")
    wait_until(lambda: len(list(store.results.glob("*.json"))) >= 2, 200)
    driver.kill()
    driver.communicate()
    finished = {record["cell"]: record["sha256"] for record in store.all()}
    code, said = finish(run(tmp_path / "killed"))
    assert code == 0, said
    kept = all(store.read(cell)["sha256"] == digest for cell, digest in finished.items())
    expected, found = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert kept
    assert 0 < len(finished) < len(expected)
    tally("R2", "real cells after a SIGKILL of the driver", sum(found[c] == expected[c] for c in expected), 6)

    assert finish(run(tmp_path / "ray", "--executor", "ray"))[0] == 0
    found = contents(tmp_path / "ray")
    tally("R2", "the same cells on Ray, byte by byte", sum(found[c] == expected[c] for c in expected), 6)
