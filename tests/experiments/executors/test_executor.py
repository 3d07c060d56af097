"""Every job ends in one outcome, whatever happens to its process."""

import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors import local
from manifold_lora.experiments.executors.base import Job, Limits
from manifold_lora.experiments.executors.devices import Devices
from manifold_lora.experiments.executors.local import LocalExecutor


@pytest.fixture
def jobs(monkeypatch):
    """The module of job functions, under a name that child processes can import."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("executor_jobs")


def test_each_ending_is_distinguished_and_the_others_still_finish(jobs, tmp_path):
    work = [
        Job("well", jobs.answer, (21,)),
        Job("raises", jobs.fail),
        Job("refuses", jobs.refuse),
        Job("dies", jobs.die),
        Job("dies-once", jobs.die_once, (str(tmp_path / "died"),)),
        Job("no-memory", jobs.ask_for_too_much),
        Job("secretive", jobs.answer_with_a_lock),
        Job("last", jobs.answer, (1,)),
    ]
    steps = []
    executor = LocalExecutor(2, Limits(timeout=120, retries=1), tmp_path)
    outcomes = {outcome.id: outcome for outcome in executor.run(work, lambda *step: steps.append(step))}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "well": "ok",
        "raises": "failed",
        "refuses": "refused",
        "dies": "failed",
        "dies-once": "ok",
        "no-memory": "oom",
        "secretive": "failed",
        "last": "ok",
    }
    assert outcomes["well"].value == 42
    assert "no such luck" in outcomes["raises"].reason
    assert "RuntimeError: no such luck" in outcomes["raises"].traceback
    assert isinstance(outcomes["refuses"].value, ManifoldLoraError)
    assert "SIGKILL, 2 of 2 times" in outcomes["dies"].reason
    assert ("well", 1, 2) in steps
    assert "no such luck" in (tmp_path / "raises.log").read_text()


def test_a_job_that_hangs_is_ended_at_its_limit(jobs, tmp_path):
    executor = LocalExecutor(1, Limits(timeout=1.0), tmp_path)
    (outcome,) = executor.run([Job("slow", jobs.hang)])
    assert outcome.status == "timeout"
    assert 1.0 <= outcome.seconds < 60


def test_leaving_early_ends_what_is_under_way(jobs, tmp_path):
    executor = LocalExecutor(3, Limits(), tmp_path)
    work = [Job("slow", jobs.hang), Job("slower", jobs.hang), Job("quick", jobs.answer, (1,))]
    outcomes = executor.run(work)
    assert next(outcomes).id == "quick"
    pids = [int((tmp_path / f"{name}.log").read_text().split()[-1]) for name in ("slow", "slower")]
    outcomes.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_jobs_may_come_late(jobs, tmp_path):
    def source():
        yield Job("first", jobs.answer, (1,))
        for _ in range(3):
            yield None
        yield Job("second", jobs.answer, (2,))

    start = time.monotonic()
    executor = LocalExecutor(2, Limits(), tmp_path)
    assert [outcome.value for outcome in executor.run(source())] == [2, 4]
    assert time.monotonic() - start < 30


def test_gpus_are_divided_and_taken_back(jobs, tmp_path):
    executor = LocalExecutor(2, Limits(), tmp_path, devices=Devices(["3", "5"], 1))
    work = [Job(str(place), jobs.visible_gpus) for place in range(4)]
    seen = [outcome.value for outcome in executor.run(work)]
    assert set(seen) == {"3", "5"}
    assert sorted(executor.devices.free) == ["3", "5"]
    with pytest.raises(ManifoldLoraError, match="lower --jobs"):
        Devices.of_machine(100, jobs=2)
    with pytest.raises(ManifoldLoraError, match="whole number"):
        Devices.of_machine(0.5, jobs=2)


def test_a_process_that_the_kernel_ended_for_want_of_memory_is_oom(jobs, tmp_path, monkeypatch):
    counts = iter([5, 6])
    monkeypatch.setattr(local, "kernel_kills", lambda: next(counts))
    (outcome,) = LocalExecutor(1, Limits(), tmp_path).run([Job("dies", jobs.die)])
    assert (outcome.status, outcome.reason) == ("oom", "the kernel ended the process: out of memory")
