"""Sets answered: what a cut output counts for, limits, likelihoods beside right and wrong, the base alone."""

import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.results.accuracy import accuracy, percent, right_by_set
from manifold_lora.experiments.runs.evaluate import judged
from manifold_lora.experiments.runs.generation import Output
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.run import EvaluationSettings, RunSettings
from manifold_lora.experiments.tasks import Example
from manifold_lora.experiments.tasks.benchmarks import Benchmarks
from manifold_lora.experiments.tasks.taxonomy import Taxonomy
from manifold_lora.experiments.tasks.templates import PLAIN

TEXT = Benchmarks.__new__(Benchmarks)
TEXT._template = PLAIN
NUMBER = Example("a", "Question: how many?\nAnswer:", "", "12")
CHOICE = Example("b", "Question: which?\nAnswer:", "", "B", choices=("A", "B", "C"))


@pytest.mark.parametrize(
    ("example", "text", "whole", "cut"),
    [
        (NUMBER, "The answer is 12", ("12", True), ("", False)),
        (NUMBER, "The answer is 12.\n\nQuestion: how many more are 7", ("12", True), ("12", True)),
        (NUMBER, "12\n\nQuestion: Jane has 7 apples", ("12", True), ("12", True)),
        (NUMBER, "so 20 - 8 = 12", ("12", True), ("", False)),
        (NUMBER, "#### 12\nThen 5", ("12", True), ("12", True)),
        (NUMBER, r"\boxed{12} since 5", ("12", True), ("12", True)),
        (CHOICE, "The answer is (B", ("B", True), ("", False)),
        (CHOICE, "The answer is (B). Now (C", ("B", True), ("B", True)),
    ],
)
def test_nothing_is_read_from_a_statement_that_was_cut(
    example: Example, text: str, whole: tuple[str, bool], cut: tuple[str, bool]
) -> None:
    for truncated, expected in ((False, whole), (True, cut)):
        found = judged(TEXT, example, Output(text, truncated))
        assert (found.extracted, found.correct) == expected
        assert found.truncated is truncated
        assert found.output == text


def test_the_word_of_a_cut_output_is_no_answer() -> None:
    task = Taxonomy()
    example = task.train[0]
    assert judged(task, example, Output(example.answer)).correct
    assert judged(task, example, Output(example.answer, True)).extracted == ""


def test_a_gold_text_states_the_answer_where_there_is_no_target() -> None:
    for example, text in ((NUMBER, " The answer is 12."), (CHOICE, " The answer is (B).")):
        assert TEXT.gold(example) == text
        assert TEXT.score(example, text) == Scored(example.answer, True, example.answer)
        assert TEXT.is_right(example, text)
    assert TEXT.gold(Example("d", "how many?", "", "8.0")) == " The answer is 8."
    labels = Example("c", "which?", "", "answer2", choices=("answer1", "answer2"))
    assert TEXT.gold(labels) == " the correct answer is answer2"
    assert Taxonomy().gold(NUMBER) is None


def test_accuracy_is_the_share_of_right_items_by_set() -> None:
    items = [{"set": "a", "id": str(at), "correct": at < 3} for at in range(4)]
    items.append({"set": "b", "id": "0", "correct": False})
    right = right_by_set(items)
    assert (accuracy(right["a"]), accuracy(right["b"])) == (0.75, 0.0)
    assert (percent(0.75), percent(-0.0125, "+"), percent(1.0)) == ("75.0", "-1.2", "100.0")
    with pytest.raises(ManifoldLoraError, match="item id of set a"):
        right_by_set([*items, items[0]])


def test_settings_that_change_no_result_leave_a_cells_name() -> None:
    assert cell_id(RunSettings(preflight="warn"), {}) == cell_id(RunSettings(), {})
    for changed in ({"limit": 5}, {"nll": False}, {"max_new_tokens": 24}):
        run = RunSettings(evaluation=EvaluationSettings(**changed))
        assert cell_id(run, {}) != cell_id(RunSettings(), {})


@pytest.fixture
def flags(base: str, tmp_path: Path) -> list[str]:
    return ["--model", base, "--task.style", "equation", "--task.limit", "24", "--evaluation.limit", "5"]


def test_a_base_is_scored_without_a_run(flags: list[str], tmp_path: Path, capsys) -> None:
    flags = ["evaluate", *flags, "--task", "taxonomy", "--cache", str(tmp_path)]
    assert main(flags) == 0
    assert "on taxonomy" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.json"))
    assert main([*flags, "--output", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {name: entry["items"] for name, entry in found["evaluation"].items()} == {
        "validation": 5,
        "taxonomy": 5,
    }
    assert set(found["meta"]["inputs"]) == {"base"}
    assert all(item["nll"] > 0 and item["gold_tokens"] == 2 for item in found["items"])


def test_the_limit_of_answers_leaves_training_whole_and_nll_is_a_switch(
    flags: list[str], tmp_path: Path
) -> None:
    flags += ["--adapter.rank", "2", "--train.epochs", "1", "--train.batch-size", "8", "--evaluation.no-nll"]
    assert main(["train", *flags, "--output", str(tmp_path / "run"), "--cache", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["train"]["losses"]) == 3  # 24 rows by eights
    assert [entry["items"] for entry in result["evaluation"].values()] == [5, 5]
    assert not any("nll" in item for item in result["items"])
    assert result["ceiling"] == {"train": 1.0, "validation": 1.0, "taxonomy": 1.0}
    assert {entry["max_new_tokens"] for entry in result["evaluation"].values()} == {6}
