"""R21: without a network and with HF_HUB_OFFLINE=1 the quick start passes, and no connection is tried."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fault_runs import save_base
from rich.console import Console

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.models.load import load_adapter, load_base

# Run by every interpreter of the ablation, children too: connections beyond the machine fail and are noted.
BLOCK = """
import os, socket

def refuse(name):
    plain = getattr(socket.socket, name)
    def call(self, address, *rest):
        if self.family == socket.AF_UNIX:
            return plain(self, address, *rest)
        with open(os.environ["CONNECTIONS"], "a") as log:
            print(address, file=log)
        raise OSError("the network is blocked")
    return call

socket.socket.connect, socket.socket.connect_ex = refuse("connect"), refuse("connect_ex")
"""
TASK = ["--task", "taxonomy", "--task.limit", "48", "--adapter.rank", "2", "--evaluation.max-new-tokens", "2"]


@pytest.mark.slow
def test_the_quick_start_ablation(tmp_path: Path, tally) -> None:
    """``make ablation`` with few steps: the base is pre-trained here, cells run in child processes."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    log, output = tmp_path / "connections", tmp_path / "out"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tmp_path), "CONNECTIONS": str(log)}
    command = [
        sys.executable,
        "-m",
        "manifold_lora.experiments.cli",
        "ablate",
        "experiments/configs/taxonomy.yaml",
    ]
    flags = ["--train.steps", "10", "--grid", "{arm: [lora, direct]}", "--output", str(output), *TASK]
    flags += ["--cache", str(tmp_path / "cache")]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, *flags], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not log.exists(), log.read_text()
    finished = sum(record["status"] == "ok" for record in ResultStore(output).all())
    tally("R21", "cells of the quick start, no network, no connection tried", finished, 2)
    tally("R21", "addresses in its report that lead to files beside it or into the page", *local(output))


class Addresses(HTMLParser):
    """Every address that a page names, in whatever attribute, and every one that its style fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = re.findall(r"@import\s+\S+|url\(([^)]*)\)", text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base")
        named = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        self.found += [value or "" for name, value in attrs if name in named]


def local(folder: Path) -> tuple[int, int]:
    """How many addresses of the report stay within the page and its folder, and how many there are."""
    addresses = Addresses((folder / "report.html").read_text(encoding="utf-8")).found
    inside = sum(
        address.startswith(("#", "data:")) or (":" not in address and (folder / address).is_file())
        for address in addresses
    )
    return inside, len(addresses)


def test_the_report_leads_nowhere_else(tmp_path: Path, tally) -> None:
    where = Path(__file__).parents[1] / "experiments" / "conftest.py"
    spec = importlib.util.spec_from_file_location("synthetic_results", where)
    assert spec is not None
    assert spec.loader is not None
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    small.fill(
        tmp_path, small.simulated({"lora": 0.5, "direct-flat": 0.5, "direct": 0.7}, rates=(1e-3, 1e-2))
    )
    assert write_report(tmp_path, Console(quiet=True)) == 0
    inside, addresses = local(tmp_path)
    assert addresses > 30
    tally("R21", "addresses in a report that lead to files beside it or into the page", inside, addresses)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that this process tries to connect to, each of which fails."""
    addresses: list[object] = []

    def connect(self: socket.socket, address: object) -> None:
        addresses.append(address)
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return addresses


def test_train_and_evaluate(
    tmp_path: Path, tried: list[object], monkeypatch: pytest.MonkeyPatch, tally
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--model", str(save_base(tmp_path / "base")), "--task.style", "equation"]
    flags = [*TASK, *base, "--train.steps", "2", "--cache", "cache", "--output", "run"]
    passed = [main(["train", "--arm", "direct", *flags]) == 0, main(["evaluate", "run"]) == 0]
    assert tried == []
    tally("R21", "train and evaluate, no network, no connection tried", sum(passed), 2)


def test_names_of_the_hub_are_refused_in_one_line(tried: list[object], tally) -> None:
    message = 0
    for load in (load_base, load_adapter):
        with pytest.raises(ManifoldLoraError, match="nobody/no-such-name") as caught:
            load("nobody/no-such-name")
        message += "\n" not in str(caught.value)
    assert tried == []
    tally("R21", "hub names that are not in the cache: one line", message, 2)
