"""Every job ends in one outcome, whatever happens to its process."""

from importlib import import_module
from pathlib import Path

import pytest

from manifold_lora.experiments.executor import Job, LocalExecutor
from manifold_lora.manifolds.errors import ManifoldLoraError


@pytest.fixture
def jobs(monkeypatch):
    """The module of job functions, under a name that child processes can import."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("executor_jobs")


def test_each_ending_is_told_apart_and_the_others_still_finish(jobs, tmp_path):
    work = [
        Job("well", jobs.answer, (21,)),
        Job("raises", jobs.fail),
        Job("refuses", jobs.refuse),
        Job("dies", jobs.die),
        Job("after-well", jobs.answer, (1,), needs="well"),
        Job("after-dead", jobs.answer, (1,), needs="dies"),
        Job("after-that", jobs.answer, (1,), needs="after-dead"),
        Job("needs-an-old-one", jobs.answer, (2,), needs="finished-long-ago"),
    ]
    steps = []
    executor = LocalExecutor(2, timeout=120, logs=tmp_path)
    outcomes = {outcome.id: outcome for outcome in executor.run(work, lambda *step: steps.append(step))}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "well": "ok",
        "raises": "failed",
        "refuses": "refused",
        "dies": "failed",
        "after-well": "ok",
        "after-dead": "failed",
        "after-that": "failed",
        "needs-an-old-one": "ok",
    }
    assert outcomes["well"].value == 42
    assert "no such luck" in outcomes["raises"].reason
    assert isinstance(outcomes["refuses"].value, ManifoldLoraError)
    assert "-9" in outcomes["dies"].reason
    assert "dies" in outcomes["after-dead"].reason
    assert ("well", 1, 2) in steps
    assert "no such luck" in (tmp_path / "raises.log").read_text()


def test_a_job_that_hangs_is_ended_at_its_limit(jobs, tmp_path):
    executor = LocalExecutor(1, timeout=1.0, logs=tmp_path)
    (outcome,) = executor.run([Job("slow", jobs.hang)])
    assert outcome.status == "timeout"
    assert 1.0 <= outcome.seconds < 60
