"""What Windows lacks is asked for where it is used: every module is imported there, and the rest says WSL."""

import subprocess
import sys

import pytest

# Removes from this interpreter what CPython for Windows does not have.
WINDOWS = """
import importlib, multiprocessing, os, pkgutil, signal, sys
import datasets, peft, psutil, tempfile, transformers  # their Linux parts may ask for what Linux has
sys.modules.update(dict.fromkeys(("resource", "fcntl", "termios", "pwd", "grp")))
for name in ("SIGHUP", "SIGPROF", "ITIMER_PROF", "ITIMER_VIRTUAL", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
del os.register_at_fork
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""


EVERYTHING = """
import manifold_lora
for part in pkgutil.walk_packages(manifold_lora.__path__, "manifold_lora."):
    if part.name.endswith("second_reader_child"):
        continue
    try:
        importlib.import_module(part.name)
    except ModuleNotFoundError as error:
        assert error.name.partition(".")[0] in {absent}, error
import torch
layer = manifold_lora.ManifoldLoRA(8, 8, r=2)
layer(torch.ones(3, 8)).sum().backward()
print(float(layer.lora_B.grad.abs().sum()) > 0)
"""
CELLS = """
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.second_reader import MathReader
from manifold_lora.experiments.executors.fork_server import fork_server
for call in (lambda: MathReader().start(), lambda: fork_server(())):
    try:
        call()
    except ManifoldLoraError as error:
        print(error)
"""
ABSENT = "lm_eval", "ray", "submitit", "triton", "vllm"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What an interpreter prints that lacks what Windows lacks."""
    code = WINDOWS + EVERYTHING.format(absent=ABSENT) + CELLS
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


@pytest.mark.timeout(300)
def test_every_module_is_imported_and_a_layer_trains(lines: list[str]) -> None:
    assert lines[0] == "True"


def test_cells_and_the_second_reader_are_refused_in_one_line(lines: list[str]) -> None:
    assert len(lines[1:]) == 2
    assert all("Linux or macOS" in line and "WSL" in line for line in lines[1:])
