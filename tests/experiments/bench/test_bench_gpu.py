"""The GPU's benchmark where there is no GPU: it refuses, and but for its clock it runs."""

import json

import pytest
import torch

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.bench import gpu
from manifold_lora.experiments.bench.rounds import cpu_seconds


def test_it_refuses_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ManifoldLoraError, match=r"device of bench gpu: got 'no CUDA device'.*bench adapters"):
        gpu.main([])


def test_it_refuses_to_call_the_torch_path_ours(monkeypatch):
    monkeypatch.setattr(gpu, "require_cuda", lambda: torch.device("cpu"))
    with pytest.raises(ManifoldLoraError, match=r"got 'the torch path'.*needs triton"):
        gpu.main(["--shape", "8,16,16,2"])


def test_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "require_cuda", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu, "require_triton", lambda x, shape: None)
    monkeypatch.setattr(gpu, "gpu_seconds", cpu_seconds)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a stand-in")
    command = ["--rounds", "2", "--repeats", "1", "--shape", "8,16,16,2", "--dtype", "float32", "--json"]
    assert gpu.main([*command, "--out", str(tmp_path / "gpu.md")]) == 0
    costs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    message = {(cost["what"], cost["contestant"]) for cost in costs}
    contestants = ("peft lora", "lora by hand", "ours", "ours on torch")
    assert message == {(what, name) for what in ("training step", "forward") for name in contestants}
    text = (tmp_path / "gpu.md").read_text()
    assert "on a stand-in, " in text
    assert "Unmeasured" not in text
