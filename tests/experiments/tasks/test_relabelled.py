"""A student's answers become the truth."""

import json

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.run import TaskSettings
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.experiments.tasks.relabelled import LEFT_OUT


def test_items_have_the_students_answers_and_those_without_one_are_counted(tmp_path):
    own = build_task("taxonomy", limit=6)
    sets = {"train": own.train, "validation": own.validation, **own.tests}
    labels = {name: {item.id: ["bo la", "bo"] for item in items[:4]} for name, items in sets.items()}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels))
    task = task_of(TaskSettings(name="taxonomy", limit=6, labels=path), "embedded")
    assert [item.prompt for item in task.train] == [item.prompt for item in own.train[:4]]
    assert {(item.target, item.answer) for item in task.tests["taxonomy"]} == {("bo la", "bo")}
    assert task.score(task.train[0], "bo ga").correct
    assert not task.score(task.train[0], own.train[0].answer).correct
    assert task.notes[LEFT_OUT] == 6
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**labels, "more": {}}))
    again = task_of(TaskSettings(name="taxonomy", limit=6, labels=other), "embedded")
    assert task.data_hashes["labels"] != again.data_hashes["labels"]


@pytest.mark.parametrize("text", ["{", "{}"])
def test_labels_that_are_none_are_refused(text, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(ManifoldLoraError, match=r"labels|none in "):
        _ = task_of(TaskSettings(name="taxonomy", labels=path), "embedded").train
