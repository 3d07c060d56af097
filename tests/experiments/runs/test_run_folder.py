"""A run's folder holds one run: finished, diverged or interrupted, and evaluate knows which."""

import json

import pytest

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.runs.progress import CellProgress
from manifold_lora.experiments.training.trainer import GuardedTrainer

STEPS = 4


@pytest.fixture
def train(base, tmp_path):
    """Train into the test's folder; flags come on top."""
    flags = ["--arm", "direct", "--model", base, "--task.style", "equation", "--task.limit", "24"]
    flags += ["--adapter.rank", "2", "--train.steps", str(STEPS), "--train.batch-size", "8"]
    flags += ["--evaluation.batch-size", "24", "--evaluation.max-new-tokens", "2"]

    def train(*more):
        return main(["train", *flags, "--output", str(tmp_path / "run"), "--cache", str(tmp_path), *more])

    return train


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C after step 3 of whatever is trained, until it is undone."""

    def tell(trainer, step, loss):
        if step == 4:
            raise KeyboardInterrupt
        whole(trainer, step, loss)

    whole = GuardedTrainer._tell
    with monkeypatch.context() as patched:
        patched.setattr(GuardedTrainer, "_tell", tell)
        yield patched


def result(folder):
    return json.loads((folder / "result.json").read_text())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, command):
    """The one line that a command is refused with."""
    capsys.readouterr()
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_finished_run_is_not_trained_again_nor_overwritten_by_another(train, folder, capsys):
    assert train() == 0
    before = contents(folder)
    assert train("--train.checkpoint-every", "2") == 0  # which is no other run
    assert "finished" in capsys.readouterr().out
    assert train("--adapter.rank", "3") == 2
    message = capsys.readouterr().err
    assert "holds a finished run" in message
    assert "another --output" in message
    assert contents(folder) == before


def test_a_diverged_run_leaves_its_settings_and_its_reason_alone(train, folder, capsys):
    assert train("--train.learning-rate", "1e38") == 1
    assert "diverged" in capsys.readouterr().out
    assert result(folder)["status"] == "diverged"
    assert result(folder)["run"]["train"]["learning_rate"] == 1e38
    assert "torch" in result(folder)["meta"]["versions"]
    assert "learning_rate: 1.0e+38" in (folder / "run.yaml").read_text()
    message = refused(capsys, ["evaluate", str(folder)])
    assert "diverged" in message
    assert "lower the learning rate" in message
    assert train() == 0  # nothing is lost by trying again at another rate
    assert main(["evaluate", str(folder)]) == 0


def test_an_adapter_of_an_older_run_is_not_taken_for_that_of_a_diverged_one(train, folder, capsys):
    assert train() == 0
    message = {**result(folder), "status": "diverged", "reason": "loss at step 2"}
    (folder / "result.json").write_text(json.dumps(message))
    assert "loss at step 2" in refused(capsys, ["evaluate", str(folder)])
    assert train("--train.learning-rate", "1e38") == 1
    assert not (folder / "adapter").exists()


@pytest.mark.parametrize(
    ("every", "message"),
    [("0", "starts at step 0 again"), ("2", "goes on from step 2")],
    ids=["none", "some"],
)
def test_an_interrupted_run_says_what_the_same_command_does_and_does_it(
    every, message, train, folder, capsys, interrupted
):
    flags = ["--train.checkpoint-every", every]
    assert train(*flags) == 130
    assert message in capsys.readouterr().err
    assert "unfinished" in refused(capsys, ["evaluate", str(folder)])
    interrupted.undo()
    assert train(*flags) == 0
    assert result(folder)["train"]["resumed_from"] == int(every)
    assert len(result(folder)["train"]["losses"]) == STEPS
    assert main(["evaluate", str(folder)]) == 0


def test_another_run_takes_over_from_one_that_did_not_finish(train, folder, interrupted):
    assert train("--train.checkpoint-every", "2", "--train.report-to", "tensorboard") == 130
    interrupted.undo()
    assert train("--adapter.rank", "3") == 0
    assert result(folder)["run"]["adapter"]["rank"] == 3
    assert result(folder)["train"]["resumed_from"] == 0
    assert not (folder / "logs" / "tensorboard").exists()


def test_a_verb_that_keeps_nothing_promises_nothing(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("manifold_lora.experiments.commands.data.main", interrupt)
    assert main(["data"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_training_is_shown_step_by_step_with_its_loss(train, monkeypatch):
    seen, losses = [], []

    def step(progress, job, at, steps, what=""):
        if not what:
            seen.append((job, at, steps))
            progress._looked.clear()
            losses.append(progress._loss(job))

    monkeypatch.setattr(CellProgress, "step", step)
    assert train() == 0
    assert seen == [("train", at, STEPS) for at in range(1, STEPS + 1)]
    assert all(loss.startswith("loss ") for loss in losses)


def test_the_resolved_settings_are_printed(train, capsys):
    assert train() == 0
    assert "settings beside the defaults: {arm: direct, task: {style: equation" in capsys.readouterr().out


def test_an_evaluation_says_what_it_was_made_from(train, folder):
    assert train() == 0
    assert main(["evaluate", str(folder), "--evaluation.batch-size", "7"]) == 0
    evaluated, trained = json.loads((folder / "evaluation.json").read_text()), result(folder)
    assert evaluated["meta"]["versions"] == trained["meta"]["versions"]
    assert evaluated["meta"]["notes"] == trained["meta"]["notes"]
    inputs = evaluated["meta"]["inputs"]
    assert len(inputs.pop("adapter")) == 64
    assert inputs == trained["meta"]["inputs"]
    batch_size = trained["run"]["evaluation"].pop("batch_size")
    assert (batch_size, evaluated["run"]["evaluation"].pop("batch_size")) == (24, 7)
    assert evaluated["run"] == trained["run"]


@pytest.mark.parametrize("flag", ["--adapter.rank", "--train.steps", "--model", "--arm"])
def test_a_flag_that_evaluation_does_not_read_is_refused(flag, folder, capsys):
    folder.mkdir()
    (folder / "run.yaml").write_text("arm: direct\n")
    assert main(["evaluate", str(folder), flag, "9"]) == 2
    assert flag in capsys.readouterr().err


def test_evaluate_lists_its_switches(capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--help"])
    assert end.value.code == 0
    message = capsys.readouterr().out
    assert "--evaluation.max-new-tokens" in message
    assert "--task.tests" in message
    assert "--adapter.rank" not in message
