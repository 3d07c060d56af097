"""Kappa and s of every layer are written while a run trains, seldom, and once by a run that is resumed."""

import json
from pathlib import Path

import pytest
from peft import LoraConfig

from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.encoding import encode_examples
from manifold_lora.experiments.training.logs import RunLogs
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.train import fit
from manifold_lora.models.geometry_log import effective_kappa
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig

LEARNED = ManifoldLoraConfig(r=2, target_modules=["q_proj"], curvature={"mode": "learned", "kappa": -0.7})


class Stop(Exception):
    """An interruption."""


@pytest.fixture
def train():
    task = build_task("taxonomy", limit=48)
    tokenizer = word_tokenizer(document.text for document in task.pretraining_texts())

    def train(config, **arguments):
        base = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16)
        model = adapt(base, config)
        settings = {"steps": 24, "batch_size": 4, **arguments.pop("settings", {})}
        rows = encode_examples(tokenizer, task.train)
        fit(model, tokenizer, rows, TrainSettings(**settings), FitOptions(**arguments))
        return model

    return train


def lines(logs: RunLogs) -> list[dict]:
    return [json.loads(line) for line in logs.geometry.read_text().splitlines()]


def test_the_geometry_has_a_line_now_and_then(train, tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, "cell")
    model = train(LEARNED, logs=logs)
    message = lines(logs)
    assert [line["step"] for line in message] == [0, 3, 6, 9, 12, 15, 18, 21, 24]
    ((name, kappa),) = message[-1]["kappa"].items()
    assert name == "model.layers.0.self_attn.q_proj.default"
    assert kappa == pytest.approx(*effective_kappa(model).values(), rel=1e-5)
    assert message[0]["kappa"][name] == pytest.approx(-0.7)
    assert message[0]["s"][name] == pytest.approx(4.0)
    assert len(logs.steps.read_text().splitlines()) == 24


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=["q_proj"]),
        ManifoldLoraConfig(r=2, target_modules=["q_proj"], norm_scaling="fixed"),
    ],
    ids=["lora", "fixed"],
)
def test_nothing_is_written_where_no_geometry_is_learned(train, tmp_path: Path, config) -> None:
    logs = RunLogs(tmp_path, "cell")
    logs.write_geometry(5, {"kappa": {"an earlier run": -1.0}})
    train(config, logs=logs)
    assert not logs.geometry.exists()


def test_a_resumed_run_tells_each_step_once(train, tmp_path: Path) -> None:
    logs, checkpoints = RunLogs(tmp_path / "logs", "cell"), tmp_path / "checkpoints"

    def stop(step: int, loss: float) -> None:
        if step == 11:
            raise Stop

    settings = {"checkpoint_every": 6}
    with pytest.raises(Stop):
        train(LEARNED, logs=logs, settings=settings, checkpoints=Checkpoints(checkpoints), on_step=stop)
    assert [line["step"] for line in lines(logs)] == [0, 3, 6, 9]
    train(LEARNED, logs=logs, settings=settings, checkpoints=Checkpoints(checkpoints))
    assert [line["step"] for line in lines(logs)] == [0, 3, 6, 9, 12, 15, 18, 21, 24]


def test_reporters_hear_of_it(train, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(LEARNED, logs=RunLogs(tmp_path, "cell"), settings={"report_to": ("tensorboard",)})
    events = EventAccumulator(str(tmp_path / "tensorboard" / "cell")).Reload()
    assert {"train/kappa/mean", "train/kappa/min", "train/s/max"} <= set(events.Tags()["scalars"])
