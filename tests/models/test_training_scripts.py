"""The scripts of docs/tutorials/trainers, each run as it stands on a tiny model; what each saved loads."""

import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from manifold_lora.models.load import load_adapter

SCRIPTS = Path(__file__).parents[2] / "docs" / "tutorials" / "trainers"


def check_saved(folder, base) -> None:
    model = load_adapter(folder, base(), require_manifest=True)
    trained = [parameter for name, parameter in model.named_parameters() if ".lora_B." in name]
    assert trained
    assert all(parameter.any() for parameter in trained)
    assert "tokenizer.json" in os.listdir(folder)


def test_every_script_is_tested_and_fits_on_a_page() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == {*SINGLE, "accelerate_fsdp2"}
    assert max(len(path.read_text().splitlines()) for path in SCRIPTS.glob("*.py")) <= 40


SINGLE = {"hf_trainer": "transformers", "trl_sft": "trl", "lightning_fit": "lightning"}


# What a Trainer says where there is no GPU.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
@pytest.mark.parametrize("script", SINGLE)
def test_a_script_trains_a_curved_adapter(script, base, model_folder, tmp_path, monkeypatch) -> None:
    pytest.importorskip(SINGLE[script])
    monkeypatch.setattr(sys, "argv", [script, str(model_folder("llama")), str(tmp_path / "out")])
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if script == "lightning_fit":
            # Of this many workers it has opinions, and it calls what torch and Python deprecate.
            warnings.simplefilter("ignore")
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    check_saved(tmp_path / "out", base)


@pytest.mark.slow
def test_accelerate_shards_a_curved_adapter_over_two_ranks(base, model_folder, tmp_path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    scripts = [str(Path(__file__).with_name("fsdp2_on_cpu.py")), str(SCRIPTS / "accelerate_fsdp2.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    arguments = [str(model_folder("llama")), str(tmp_path / "out")]
    subprocess.run([*command, *scripts, *arguments], check=True, env=environment, timeout=280)
    check_saved(tmp_path / "out", base)
