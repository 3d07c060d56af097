"""Rows that are too long: dropped whole, reported, not counted in epochs, refused where they are the most."""

from dataclasses import replace

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.runs.cell import load_adapted, run_cell, train_and_evaluate
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.experiments.tasks.whole_text import WholeText
from manifold_lora.experiments.training.encoding import encode_examples, training_rows
from manifold_lora.models.load import load_tokenizer


class SomeLonger(WholeText):
    """The taxonomy, every third training row two words longer than the rest."""

    @property
    def splits(self):
        splits = super().splits
        rows = [
            replace(row, prompt=f"lca lca {row.prompt}") if place % 3 == 0 else row
            for place, row in enumerate(splits.train)
        ]
        return replace(splits, train=rows)


@pytest.fixture(scope="module")
def task():
    return SomeLonger(build_task("taxonomy", limit=24))


@pytest.fixture(scope="module")
def tokenizer(base):
    return load_tokenizer(base)


def test_what_fits_is_kept_whole_and_in_order(tokenizer, task):
    rows = training_rows(tokenizer, task.train, 8)
    assert rows.examples == [row for at, row in enumerate(task.train) if at % 3]
    assert rows.encoded == encode_examples(tokenizer, rows.examples)
    assert (len(rows), rows.left_out) == (16, 8)
    assert training_rows(tokenizer, task.train, 9).examples == task.train


def test_where_most_rows_are_too_long_the_lengths_that_would_do_are_reported(tokenizer, task):
    rows = [row for at, row in enumerate(task.train) if at % 3 < 2][:15]  # 8 long ones, 7 that fit
    with pytest.raises(
        ManifoldLoraError, match=r"9 for all training rows, 9 for half.*7 of 15 are that short"
    ):
        training_rows(tokenizer, rows, 8)
    assert len(training_rows(tokenizer, rows[1:], 8)) == 7


def test_a_run_tells_what_it_leaves_out_and_its_epochs_count_the_rest(base, task):
    data = {
        "model": {"name": base},
        "adapter": {"rank": 2},
        "train": {"epochs": 2, "batch_size": 8, "max_length": 8},
        "evaluation": {"batch_size": 24, "max_new_tokens": 2},
    }
    run = validate(RunSettings, data, "test")
    adapted = load_adapted(run, base, task.train, {})
    lines: list[str] = []
    record, _ = train_and_evaluate(adapted, task, run, lambda *_: None, tell=lines.append)
    assert (
        lines[0] == "8 of 24 training rows are left out: longer than 8 tokens (train.max_length takes more)"
    )
    assert record["train"]["left_out"] == 8
    assert len(record["train"]["losses"]) == 4  # two passes over sixteen rows
    with pytest.raises(ManifoldLoraError, match=r"train\.max_length"):
        load_adapted(run, base, task.train[::3], {})


def test_train_tells_it_on_the_console(base, task, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("manifold_lora.experiments.runs.single.task_of", lambda *_: task)
    flags = ["--model", base, "--adapter.rank", "2", "--train.steps", "1", "--train.max-length", "8"]
    flags += ["--evaluation.max-new-tokens", "2", "--output", str(tmp_path / "run"), "--cache", str(tmp_path)]
    assert main(["train", *flags]) == 0
    assert "8 of 24 training rows are left out: longer than 8 tokens" in capsys.readouterr().out


def test_a_cell_tells_it_in_its_log_and_its_result(base, task, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("manifold_lora.experiments.runs.cell.task_of", lambda *_: task)
    run = {
        "train": {"steps": 1, "max_length": 8},
        "evaluation": {"max_new_tokens": 2},
        "adapter": {"rank": 2},
    }
    cell = {"id": "0" * 16, "run": run, "point": {}, "needs": None}
    run_cell(cell, str(tmp_path), base, {}, lambda *_: None)
    assert "8 of 24 training rows are left out" in capsys.readouterr().out  # which a child writes to its log
    assert ResultStore(tmp_path).read(cell["id"])["train"]["left_out"] == 8
