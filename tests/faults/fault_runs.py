"""A tiny base of the taxonomy task and its arms, for the checks that train."""

import gc
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from manifold_lora.experiments.results.store import content
from manifold_lora.experiments.runs.cell import Adapted, checkpoints_of, load_adapted, train_and_evaluate
from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks import Task, build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.options import FitOptions, OnStep
from manifold_lora.experiments.training.train import TrainReport, fit
from manifold_lora.models.tiny import tiny_model, word_tokenizer

Progress = Callable[[int, int], None]

# Trainer collects garbage before it starts: half a second for the modules of torch, which are none.
gc.freeze()


@cache
def small_task() -> Task:
    """Twenty-four examples of the taxonomy."""
    return build_task("taxonomy", limit=24)


def settings_of(arm: str, base: Path, **train: object) -> RunSettings:
    """The run of an arm: rank 2 and dropout on every linear layer, twelve steps of eight examples."""
    return validate(
        RunSettings,
        {
            "arm": arm,
            "task": {"name": "taxonomy", "style": "equation", "limit": 24},
            "model": {"name": str(base)},
            "adapter": {"rank": 2, "dropout": 0.1, **ARMS[arm]},
            "train": {"steps": 12, "batch_size": 8, "warmup_ratio": 0.0, **train},
            "evaluation": {"batch_size": 24, "max_new_tokens": 2},
        },
        "test",
    )


def save_base(folder: Path) -> Path:
    """An untrained Llama with the task's tokenizer."""
    task = build_task("taxonomy")
    tokenizer = word_tokenizer(f"{example.prompt} {example.target}" for example in task.train)
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32}
    tiny_model(len(tokenizer), **shape).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Small:
    """An adapted model, ready to be trained."""

    run: RunSettings
    task: Task
    adapted: Adapted

    @property
    def model(self) -> PeftModel:
        """The adapted model."""
        return self.adapted.model

    def fit(self, on_step: OnStep, checkpoints: Checkpoints) -> TrainReport:
        """Train it."""
        options = FitOptions(on_step, checkpoints)
        return fit(*self.adapted[:2], self.adapted.rows.encoded, self.run.train, options)


def load_small(arm: str, base: Path, **train: object) -> Small:
    """The untrained arm on the base."""
    run = settings_of(arm, base, **train)
    return Small(run, small_task(), load_adapted(run, str(base), small_task().train, {}))


def run_once(arm: str, base: Path, out: Path, progress: Progress = lambda *at: None, **train: object) -> None:
    """Train and evaluate an arm as a cell does; checkpoints, record and weights are written to ``out``."""
    small = load_small(arm, base, **train)
    checkpoints = checkpoints_of(out, "cell")
    record, items = train_and_evaluate(small.adapted, small.task, small.run, progress, checkpoints)
    weights = {name: p.detach() for name, p in small.model.named_parameters() if p.requires_grad}
    save_file(weights, out / "weights.safetensors")
    (out / "record.json").write_text(json.dumps({"record": record, "items": items}, sort_keys=True))


def in_child(arm: str, base: Path, out: Path, steps: Connection, train: dict[str, object]) -> None:
    """``run_once`` in a process that tells each step it has done."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    run_once(arm, base, out, lambda step, *_: steps.send(step), **train)


def difference(one: Path, other: Path) -> float:
    """The largest difference between the weights of two runs; infinite if anything else of them differs."""
    first, second = (load_file(folder / "weights.safetensors") for folder in (one, other))
    message = [content(json.loads((folder / "record.json").read_text())) for folder in (one, other)]
    if first.keys() != second.keys() or message[0] != message[1]:
        return math.inf
    return max(float((first[name] - second[name]).abs().max()) for name in first)


if __name__ == "__main__":
    # python fault_runs.py BASE OUT ARM:SEED ...: the arms one after the other, in this process.
    for name in sys.argv[3:]:
        chosen, _, seed = name.partition(":")
        folder = Path(sys.argv[2]) / name.replace(":", "-")
        folder.mkdir(parents=True)
        run_once(chosen, Path(sys.argv[1]), folder, steps=6, seed=int(seed))
