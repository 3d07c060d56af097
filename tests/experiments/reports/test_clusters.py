"""What is missing for a cluster is reported before anything runs; settings reach the executors."""

import shutil
import sys
from operator import itemgetter

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.executors.base import Job, Limits
from manifold_lora.experiments.executors.build import build_executor
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.executors.slurm import SlurmExecutor
from manifold_lora.experiments.executors.supervisor import Supervisor
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import validate


def _settings(tmp_path, **execution):
    data = {"output": str(tmp_path / "out"), "jobs": 3, "timeout": 90, "execution": execution}
    return validate(AblationSettings, data, "test")


def test_the_local_executor_gets_its_limits(tmp_path):
    executor = build_executor(_settings(tmp_path, memory_mb=700, retries=5, threads=1))
    assert isinstance(executor, LocalExecutor)
    assert (executor.jobs, executor.threads) == (3, 1)
    assert executor.limits == Limits(90, 700, 5, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("execution", "missing", "message"),
    [
        ({"executor": "ray"}, "ray", "manifold-lora[ray]"),
        ({"executor": "ray", "address": "127.0.0.1:1"}, None, "refused"),
        ({"executor": "ray", "address": "nowhere"}, None, "host:port of a running one"),
        ({"executor": "slurm"}, "submitit", "manifold-lora[slurm]"),
        ({"executor": "slurm"}, None, "sbatch"),
        ({"executor": "slurm", "gpus": 0.5}, "sbatch there", "whole number"),
        ({"gpus": 64}, None, "lower --jobs"),
    ],
    ids=["ray", "no cluster", "no port", "submitit", "sbatch", "fraction of a GPU", "GPUs"],
)
def test_what_is_missing_is_reported(tmp_path, monkeypatch, execution, missing, message):
    if missing == "sbatch there":
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    elif missing:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ManifoldLoraError) as caught:
        build_executor(_settings(tmp_path, **execution))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"executor": "lokal"}, "local"),
        ({"memory_mb": 0}, "greater than or equal to 1"),
        ({"retrys": 2}, "did you mean 'retries'"),
        ({"slurm": ["gpu"]}, "a mapping"),
    ],
)
def test_bad_settings_are_reported(tmp_path, execution, message):
    with pytest.raises(ManifoldLoraError) as caught:
        _settings(tmp_path, **execution)
    assert message in str(caught.value)


def test_sbatch_gets_what_a_cell_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    limits = Limits(timeout=3600, memory_mb=3000, retries=1, threads=4)
    executor = SlurmExecutor(2, limits, tmp_path, 2, {"partition": "long", "account": "me"})
    asked = executor.queue._executor.parameters
    assert asked["time"] == 130
    assert asked["mem"] == "5GB"
    assert (asked["cpus_per_task"], asked["gpus_per_node"]) == (4, 2)
    assert (asked["partition"], asked["account"]) == ("long", "me")
    with pytest.raises(ManifoldLoraError, match="partitoin"):
        SlurmExecutor(2, limits, tmp_path, parameters={"partitoin": "long"})


def test_a_supervisor_runs_one_job_under_the_limits(tmp_path):
    supervisor = Supervisor.here(Limits(timeout=60), tmp_path)
    outcome = supervisor.run(Job("sum", itemgetter(0)))
    assert (outcome.id, outcome.status) == ("sum", "failed")
    assert "not subscriptable" in outcome.reason


def test_help_lists_the_switches(capsys):
    with pytest.raises(SystemExit) as end:
        main(["ablate", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for switch in ("--executor", "--execution.memory-mb", "--execution.retries", "--execution.slurm"):
        assert switch in shown
