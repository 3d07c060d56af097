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

from manifold_lora.experiments.executors.interrupt import end_with_parent
from manifold_lora.experiments.planted import control
from manifold_lora.experiments.planted.settings import PlantedSettings
from manifold_lora.experiments.results.atomic import sweep_temporaries
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


@pytest.mark.parametrize("step", [-DAY, DAY], ids=["back", "ahead"])
def test_a_clock_of_its_own_takes_no_file_from_a_writer_elsewhere(
    tmp_path: Path, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another machine is writing counts as left after an hour, by the file system's clock."""
    here = time.time()
    monkeypatch.setattr(time, "time", lambda: here + step)
    for name, age in (("new", 0.0), ("old", 2 * 3600.0)):
        (tmp_path / f".{name}.{'0' * 12}-1-1.aa.tmp").touch()
        os.utime(tmp_path / f".{name}.{'0' * 12}-1-1.aa.tmp", (here - age,) * 2)
    assert [path.name.split(".")[1] for path in sweep_temporaries(tmp_path)] == ["old"]


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


def test_a_fork_server_whose_driver_died_before_it_could_ask_ends() -> None:
    module = "manifold_lora.experiments.executors.with_parent"
    program = [sys.executable, "-c", f"import {module}"]
    for driver, code in (("1", 3), (str(os.getpid()), 0)):
        environment = {**ENVIRONMENT, "MANIFOLD_LORA_DRIVER": driver}
        assert subprocess.run(program, env=environment, check=False).returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_a_pool_end_with_their_driver(number: signal.Signals, tally) -> None:
    """By themselves they would wait for work for ever: those of positive-control did."""
    program = (
        "import time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from manifold_lora.experiments.executors.interrupt import end_with_parent\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(2, get_context('spawn'), initializer=end_with_parent)\n"
        "    list(pool.map(abs, range(2)))\n"
        "    waiting = [pool.submit(time.sleep, 60) for _ in range(2)]\n"
        "    print('working', flush=True); waiting[0].result()\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"working\n"
    family = _descendants(driver.pid)
    assert len(family) >= 2
    driver.send_signal(number)
    driver.communicate()
    wait_until(lambda: _gone(family), 10)
    tally("R34", f"processes of a pool gone after {number.name}", len(family), len(family))


def test_positive_control_has_such_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    class Pool:
        def __init__(self, *_: object, **options: object) -> None:
            asked.append(options)
            raise KeyboardInterrupt

    monkeypatch.setattr(control, "ProcessPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        next(control.run_studies(PlantedSettings(studies=1)))
    assert asked[0]["initializer"] is end_with_parent


@pytest.mark.slow
def test_a_reader_of_answers_does_not_outlive_its_driver() -> None:
    """What is computed in C hears neither a timer nor the end of stdin: the kernel ends it."""
    program = (
        "import signal\n"
        "from manifold_lora.experiments.answers.second_reader_child import _ring, _timed\n"
        "signal.signal(signal.SIGPROF, _ring)\n"
        "_timed(0.01, lambda: str(sum(range(10**12))))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, check=False, timeout=60)
    assert done.returncode == -signal.SIGXCPU


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
