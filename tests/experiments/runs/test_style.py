"""style auto: equations wherever a task has them, text for benchmarks and where a template is chosen."""

import json

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.run import RunSettings, TaskSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data schema of the word problems, two or three rows a file."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "tests"):
        (folder / name).mkdir()
    rows = [
        {
            "instruction": f"Tom has 3 {thing} and buys 4 more. How many {thing} has he?",
            "output": "He has 3 + 4 = 7. The answer is 7.",
            "source": "test",
            "answer": "7",
            "equation": "X=(3+4)",
        }
        for thing in ("pens", "books", "cups", "hats", "nuts")
    ]
    train = ("mawps_train_equations", "mawps_single_train_equations", "mawps_valid_equations")
    for name, part in zip(train, (rows[:2], rows[:2], rows[2:4]), strict=True):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / "train" / f"{name}.jsonl").write_text(lines)
    for name in ("mawps", "AddSub", "SVAMP"):
        tested = [{"id": f"{name}-0", "instruction": rows[4]["instruction"], "answer": "7"}]
        (folder / "tests" / f"{name}.json").write_text(json.dumps(tested))
    return folder


@pytest.mark.parametrize("model", ["embedded", "owner/model"])
def test_word_problems_are_equations_for_every_model(data, model):
    train = task_of(TaskSettings(name="word_problems", data=data), model).train
    assert [example.target for example in train] == ["N0 + N1"] * 2
    assert all("has N0" in example.prompt for example in train)


def test_the_config_or_a_template_makes_them_text(data):
    for chosen in ({"style": "text"}, {"template": "alpaca"}):
        settings = TaskSettings(name="word_problems", data=data, **chosen)
        assert "He has 3 + 4 = 7." in task_of(settings, "owner/model").train[0].target


def test_a_benchmark_is_text_but_not_for_the_embedded_base(data):
    settings = TaskSettings(name="addsub", data=data)
    with pytest.raises(ManifoldLoraError, match="embedded base reads equations only"):
        task_of(settings, "embedded")
    task = task_of(settings, "owner/model")
    assert "He has 3 + 4 = 7." in task.train[0].target


def test_a_file_of_ones_own_is_text(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"ask {n}", "completion": f"say {n}"}) + "\n" for n in range(9))
    )
    train = task_of(TaskSettings(name="own", data=path), "owner/model").train
    assert "say" in train[0].target


def test_a_cell_that_once_was_text_has_another_name():
    """Its numbers, kept by the old name, would be those of another prompt."""

    def named(model, **task):
        run = RunSettings.model_validate({"task": task, "model": {"name": model}})
        return cell_id(run, {"base": "0"})

    auto = named("owner/model", name="word_problems")
    assert auto == named("owner/model", name="word_problems", style="equation")
    assert auto != named("embedded", name="word_problems")
    assert named("owner/model", name="gsm8k") == named("embedded", name="gsm8k")
