"""R34: a clock that is stepped takes nothing from the living; what dies by a signal leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fault_drivers import ENVIRONMENT, finish, start, wait_until
from fault_jobs import notes
from fault_runs import save_base

from manifold_lora.experiments.results.owner import Owner
from manifold_lora.experiments.sweeps.claims import Claims
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat

DAY = 86_400.0


@pytest.mark.parametrize("step", [-DAY, DAY], ids=["back", "ahead"])
def test_a_stepped_clock_takes_nothing_from_the_living(tmp_path: Path, step: float, tally) -> None:
    """The file of a driver that runs was touched a day ago, or will be in a day."""
    with DriverHeartbeat(tmp_path, "same", 60) as one, DriverHeartbeat(tmp_path, "same", 60) as other:
        assert Claims(tmp_path, one).take("cell")
        moved = one.path.stat().st_mtime + step
        os.utime(one.path, (moved, moved))
        kept = [not Claims(tmp_path, other).take("cell"), other.lives(one.token), one.token in other.others()]
        tally("R34", "signs of a living driver after the clock was stepped by a day", sum(kept), 3)


def test_a_start_is_read_from_no_clock() -> None:
    """Linux counts it in ticks since the machine started; a time of day would move with the clock."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert Owner.current().started == ticks


def test_a_process_of_an_odd_name_is_known(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([odd, "-c", "input()"], stdin=subprocess.PIPE, env=ENVIRONMENT)
    time.sleep(0.2)
    start_of = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    owner = Owner(Owner.current().host, process.pid, int(start_of))
    assert owner.alive()
    process.communicate(b"\n")
    assert owner.alive() is False


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def test_a_killed_driver_takes_its_children_along(tmp_path: Path, tally) -> None:
    """While cells are at work: the fork server and every worker are gone within ten seconds."""
    driver = start(tmp_path, "--cells", 4, "--seconds", 60, "--jobs", 2)
    wait_until(lambda: len(notes(tmp_path, "start")) == 2)
    family = _descendants(driver.pid)
    driver.kill()
    driver.communicate()
    wait_until(lambda: _gone(family), 10)
    tally("R34", "processes of a killed driver gone within 10 s", len(family), len(family))


def test_a_fork_server_that_is_still_importing_ends_too(tmp_path: Path) -> None:
    """By itself it would look at its driver when its imports are done, here after a minute."""
    (tmp_path / "sleepy.py").write_text("import time\ntime.sleep(60)\n")
    program = (
        "from pathlib import Path\n"
        "from manifold_lora.experiments.executors.fork_server import fork_server\n"
        "fork_server(['sleepy']); print('started', flush=True); input()\n"
    )
    paths = os.pathsep.join([str(tmp_path), ENVIRONMENT.get("PYTHONPATH", "")])
    driver = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**ENVIRONMENT, "PYTHONPATH": paths},
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"started\n"
    time.sleep(1)
    family = _descendants(driver.pid)
    assert any("forkserver" in " ".join(one.cmdline()) for one in family)
    driver.kill()
    driver.communicate()
    wait_until(lambda: _gone(family), 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_train_says_how_to_go_on_and_dies_of_the_signal(tmp_path: Path, number: signal.Signals) -> None:
    base, logs = save_base(tmp_path / "base"), tmp_path / "run" / "logs" / "train.jsonl"
    flags = ["--task.style", "equation", "--task.limit", "8", "--model", str(base), "--train.steps", "100000"]
    flags += ["--train.checkpoint-every", "2", "--output", str(tmp_path / "run")]
    command = [sys.executable, "-m", "manifold_lora.experiments.cli", "train", *flags]
    kept = signal.signal(number, signal.SIG_DFL)
    run = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    signal.signal(number, kept)
    wait_until(lambda: logs.exists() and logs.read_text().count("\n") > 4, 120)
    run.send_signal(number)
    code, said = finish(run)
    assert code == -number
    last = said.strip().splitlines()[-1]
    assert last.startswith("interrupted; the same command goes on from step ")
