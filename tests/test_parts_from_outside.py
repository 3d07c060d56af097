"""One part of each kind from a module outside, named on the command line: each is one class and one row."""

import json
import subprocess
import sys

import pytest

from manifold_lora.models.tiny import tiny_model, word_tokenizer

MODULE = """
from pathlib import Path
from random import Random

from matplotlib.figure import Figure
from peft import LoraConfig
from manifold_lora.adapters import NORM_SCALINGS, TRANSFORMS
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.transforms import Direct
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.methods.config import low_rank
from manifold_lora.experiments.reports.figures.registry import FIGURES
from manifold_lora.experiments.settings.executors import EXECUTORS
from manifold_lora.experiments.settings.methods import METHODS
from manifold_lora.experiments.tasks import TASKS, Example, Scored, Splits, Task
from manifold_lora.manifolds import MANIFOLDS, Poincare


@MANIFOLDS.register("wide_ball", kappa_sign=-1, extra_dims=0, options=("factor",))
class WideBall(Poincare):
    def __init__(self, curvature=-1.0, factor=1.0):
        super().__init__(curvature)
        self.factor = factor

    def extra_repr(self):
        return f"factor={self.factor}"


@TRANSFORMS.register("halved", linear="never")
class Halved(Direct):
    linear = "never"

    def forward(self, manifold, x, A, B):
        return super().forward(manifold, x, A / 2, B)


@NORM_SCALINGS.register("tenth", linear=True, shareable=False, options=("factor",))
class Tenth(NormScaling):
    def __init__(self, in_features, factor=0.1):
        super().__init__(in_features)
        self.factor = factor

    def law(self, dtype):
        return ScaleLaw(alpha=self.factor)


@METHODS.register("rank_stabilised")
def rank_stabilised(settings, gains, kappas, steps):
    return LoraConfig(use_rslora=True, **low_rank(settings))


@EXECUTORS.register("counted")
class Counted(LocalExecutor):
    def start(self, job):
        with Path("started.txt").open("a") as file:
            print(job.id, file=file)
        return super().start(job)


@FIGURES.register("losses", caption="A figure from outside.")
def losses(rows):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(range(len(rows)))
    return figure


@TASKS.register("echo", reads="")
class Echo(Task):
    name = "echo"

    def __init__(self, seed=0, style="equation", limit=None):
        items = [Example(f"{n}", f"lca w{n} =>", f"w{n}", f"w{n}") for n in range(40)]
        Random(seed).shuffle(items)
        self._splits = Splits(items[:20], items[20:30], {"echo": items[30:]}).first(limit)

    @property
    def splits(self):
        return self._splits

    def score(self, example, output):
        return Scored(output.strip(), output.strip() == example.answer)

    base_spec = None

    def pretraining_texts(self):
        return []
"""
CONFIG = """
task: {name: echo}
model: {name: base}
train: {steps: 2, batch_size: 4}
evaluation: {batch_size: 10}
execution: {executor: counted}
baseline: theirs
output: out
preflight: warn
arms:
  theirs: {method: rank_stabilised, rank: 2, target_modules: [q_proj]}
  curved:
    method: manifold_lora
    rank: 2
    target_modules: [q_proj]
    manifold: {name: wide_ball, factor: 2.0, curvature: -0.5}
    transform: halved
    norm_scaling: {name: tenth, factor: 0.2}
grid: {arm: [theirs, curved]}
"""


@pytest.fixture
def place(tmp_path):
    """A folder with the module, its config and a tiny model."""
    (tmp_path / "outside.py").write_text(MODULE)
    (tmp_path / "echo.yaml").write_text(CONFIG)
    tokenizer = word_tokenizer([f"lca w{number} => ." for number in range(40)])
    tokenizer.save_pretrained(tmp_path / "base")
    size = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32}
    tiny_model(len(tokenizer), **size).save_pretrained(tmp_path / "base")
    return tmp_path


def test_an_ablation_of_parts_from_outside(place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    command = [sys.executable, "-W", "ignore", "-m", "manifold_lora.experiments.cli", "ablate", "echo.yaml"]
    done = subprocess.run(
        [*command, "--plugin", "outside"], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (place / "out" / "results").glob("*.json")]
    found = {record["run"]["arm"]: record for record in records}
    assert {record["status"] for record in records} == {"ok"}
    assert set(found["curved"]["geometry"]["kappa"].values()) == {-0.5}
    assert found["theirs"]["geometry"].get("kappa") in (None, {})
    started = (place / "started.txt").read_text().split()
    assert sorted(started) == sorted(record["id"] for record in records)
    assert "A figure from outside." in (place / "out" / "report.html").read_text(encoding="utf-8")
