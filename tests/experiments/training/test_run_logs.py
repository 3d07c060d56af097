"""Every step leaves a JSON line, once, resumed or not; the console reads the loss there."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.progress import CellProgress
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.run import RunSettings, TrainSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.encoding import encode_examples
from manifold_lora.experiments.training.logs import RunLogs
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.train import fit
from manifold_lora.models.tiny import tiny_model, word_tokenizer


class Stop(Exception):
    """An interruption."""


@pytest.fixture
def train():
    task = build_task("taxonomy", limit=48)
    tokenizer = word_tokenizer(document.text for document in task.pretraining_texts())

    def train(**arguments):
        model = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16)
        settings = TrainSettings(steps=6, batch_size=8, **arguments.pop("settings", {}))
        rows = encode_examples(tokenizer, task.train)
        return fit(model, tokenizer, rows, settings, FitOptions(**arguments))

    return train


def lines(logs: RunLogs) -> list[dict[str, float]]:
    return [json.loads(line) for line in logs.steps.read_text().splitlines()]


def test_a_line_for_every_step(train, tmp_path: Path) -> None:
    logs = RunLogs(tmp_path / "logs", "cell")
    report = train(logs=logs)
    message = lines(logs)
    assert [line["step"] for line in message] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in message] == report.losses
    assert all(line["learning_rate"] >= 0 for line in message)
    assert message[1]["learning_rate"] > message[-1]["learning_rate"]
    assert logs.last() == message[-1]


def test_a_resumed_run_tells_each_step_once(train, tmp_path: Path) -> None:
    logs, checkpoints = RunLogs(tmp_path, "cell"), tmp_path / "checkpoints"

    def stop(step: int, loss: float) -> None:
        if step == 4:
            raise Stop

    settings = {"checkpoint_every": 2}
    with pytest.raises(Stop):
        train(logs=logs, settings=settings, checkpoints=Checkpoints(checkpoints), on_step=stop)
    with logs.steps.open("a") as torn:
        torn.write('{"step": 5, "lo')
    report = train(logs=logs, settings=settings, checkpoints=Checkpoints(checkpoints))
    assert report.resumed_from == 2
    assert [line["loss"] for line in lines(logs)] == report.losses


def test_tensorboard_is_a_switch_that_changes_nothing_else(train, tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, "cell")
    plain = train(logs=logs)
    reported = train(logs=logs, settings={"report_to": ("tensorboard",)})
    assert reported.losses == plain.losses
    assert list((tmp_path / "tensorboard" / "cell").glob("events.out.tfevents.*"))


def test_the_switch_is_no_part_of_a_cells_name() -> None:
    run = RunSettings(train=TrainSettings(report_to=("tensorboard",)))
    assert cell_id(run, {}) == cell_id(RunSettings(), {})


def test_a_reporter_that_is_not_installed_is_refused_before_anything_runs(monkeypatch) -> None:
    monkeypatch.setattr("manifold_lora.experiments.training.logs.find_spec", lambda name: None)
    with pytest.raises(ManifoldLoraError, match=r"report_to.*trackio.*pip install"):
        expand(AblationSettings(train=TrainSettings(report_to=("trackio",))), {})


def test_the_console_shows_cells_steps_and_the_newest_loss(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, "cell")
    logs.begin(0)
    logs.write(3, 0.25, 1e-3, 1.0)
    console = Console(record=True, width=120, force_terminal=True)
    with CellProgress(console, tmp_path) as progress:
        progress.begin({"cell": "direct lr 0.01 seed 0"}, 2, 7)
        progress.step("cell", 3, 10)
    text = console.export_text()
    for part in ("2/7", "direct lr 0.01 seed 0", "3/10", "loss 0.25"):
        assert part in text
