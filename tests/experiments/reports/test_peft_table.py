"""`report --format peft`: what PEFT's method_comparison reads of a result, from the study's raw results."""

import json
import tarfile
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.commands.report import main
from manifold_lora.experiments.reports.peft_table import peft_results, write_peft_table
from manifold_lora.experiments.results.store import ResultStore

REAL = Path(__file__).parents[3] / "docs" / "real"
# The keys that its processing.py looks up, of which a missing one would end it.
RUN = ("created_at", "total_time", "experiment_name", "peft_branch", "train_config", "peft_config")
TRAIN = (
    "accelerator_memory_reserved_avg",
    "accelerator_memory_max",
    "accelerator_memory_reserved_99th",
    "train_time",
    "file_size",
    "num_trainable_params",
    "status",
)
METRICS = ("train loss", "train samples", "test accuracy", "train total tokens")
PACKAGES = ("peft", "transformers", "datasets", "torch", "bitsandbytes")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "manifest.json").write_bytes((REAL / "manifest.json").read_bytes())
    with tarfile.open(REAL / "results.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_every_cell_and_test_set_is_a_result_that_peft_reads(study, capsys):
    assert main([str(study), "--format", "peft"]) == 0
    files = sorted((study / "peft").rglob("*.json"))
    assert f"{len(files)} results" in capsys.readouterr().out
    assert {path.parent.name for path in files} == {"addsub", "mawps", "svamp"}
    assert len(files) == 3 * 36
    for path in files:
        result = json.loads(path.read_text())
        assert set(RUN) <= result["run_info"].keys()
        assert set(TRAIN) <= result["train_info"].keys()
        assert set(METRICS) <= result["train_info"]["metrics"][-1].keys()
        assert {f"{name}-version" for name in PACKAGES} <= result["meta_info"]["package_info"].keys()
        record = ResultStore(study).read(path.stem.rpartition("--")[2])
        message = result["train_info"]["metrics"][-1]["test accuracy"]
        assert message == record["evaluation"][path.parent.name]["accuracy"]
        assert (
            result["run_info"]["train_config"]["optimizer_kwargs"]["lr"]
            == record["point"]["train.learning_rate"]
        )


def test_what_was_not_measured_is_null(study):
    record = ResultStore(study).read("fb661830c414be02")
    result = dict(peft_results(record, "2026-01-01T00:00:00+00:00"))["mawps"]
    assert result["run_info"]["experiment_name"] == "direct-dose-0.15/learning_rate 0.001, seed 2"
    assert result["run_info"]["peft_config"]["peft_type"] == "MANIFOLD_LORA"
    assert result["train_info"]["num_total_params"] is None
    assert result["train_info"]["file_size"] == record["cost"]["adapter_bytes"]


def test_no_results_and_another_format_are_refused(study, tmp_path):
    with pytest.raises(ManifoldLoraError):
        write_peft_table(tmp_path)
    with pytest.raises(ManifoldLoraError, match="--format: got 'csv'; allowed: peft"):
        main([str(study), "--format", "csv"])
