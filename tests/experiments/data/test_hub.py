"""Hub data sets: their rows become the folder's rows, an unreachable hub asks for a folder."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.data.hub import read_hub
from manifold_lora.experiments.data.leaks import LeakError
from manifold_lora.experiments.data.rows import choices_of
from manifold_lora.experiments.data.sets import TEST_SETS
from manifold_lora.experiments.tasks import build_task

OPTIONS = {"text": ["red", "green"], "label": ["A", "B"]}
# Rows as the hub has them, and what they must become.
HUB_ROWS: dict[str, tuple[dict[str, object], str, str, str]] = {
    "gsm8k": (
        {"question": "Two and two?", "answer": "It is 2+2 = <<2+2=4>>4\n#### 4"},
        "Two and two?",
        "It is 2+2 = 4 The answer is 4.",
        "4",
    ),
    "aqua": (
        {"question": "How many?", "options": ["A)21", "B) 3/4"], "rationale": "So it is.", "correct": "B"},
        "How many? Answer Choices: (A) 21 (B) 3/4",
        "So it is.\nThe answer is (B).",
        "B",
    ),
    "mawps": (
        {"question": "Ann has 3 and 4.", "expression": "3 + 4", "result": "7", "result_float": 7.0},
        "Ann has 3 and 4.",
        "The equation is X=3 + 4. The answer is 7.",
        "7",
    ),
    "svamp": (
        {"Body": "Tom has 5 pens", "Question": "How many?", "Answer": "5.0", "Type": "x"},
        "Tom has 5 pens. How many?",
        "The answer is 5.0.",
        "5.0",
    ),
    "multiarith": ({"question": " Now? ", "final_ans": "1,018"}, "Now?", "The answer is 1018.", "1018"),
    "addsub": ({"input": "Sum?", "output_answer": "9 apples"}, "Sum?", "The answer is 9.", "9"),
    "boolq": (
        {"question": "is it red", "answer": False, "passage": "no"},
        "Please answer the following question with true or false, question: is it red?\n\n"
        "Answer format: true/false",
        "the correct answer is false",
        "false",
    ),
    "piqa": (
        {"goal": "Open it?", "sol1": "Push.", "sol2": "Pull.", "label": 1},
        "Please choose the correct solution to the question: Open it?\n\n"
        "Solution1: Push.\n\nSolution2: Pull.\n\nAnswer format: solution1/solution2",
        "the correct answer is solution2",
        "solution2",
    ),
    "social_i_qa": (
        {
            "context": "It rained.",
            "question": "Why?",
            "answerA": "a",
            "answerB": "b",
            "answerC": "c",
            "label": "3",
        },
        "Please choose the correct answer to the question: It rained. Why?\n\n"
        "Answer1: a Answer2: b Answer3: c\n\nAnswer format: answer1/answer2/answer3",
        "the correct answer is answer3",
        "answer3",
    ),
    "hellaswag": (
        {"activity_label": "Ice", "ctx": "A man", "endings": ["runs", "sits", "eats", "is"], "label": "0"},
        "Please choose the correct ending to complete the given sentence: Ice: A man\n\n"
        "Ending1: runs Ending2: sits Ending3: eats Ending4: is\n\n"
        "Answer format: ending1/ending2/ending3/ending4",
        "the correct answer is ending1",
        "ending1",
    ),
    "winogrande": (
        {"sentence": "Ann met Bea and _ left.", "option1": "Ann", "option2": "Bea", "answer": "2"},
        "Please choose the correct answer to fill in the blank to complete the given sentence: "
        "Ann met Bea and _ left.\n\nOption1: Ann Option2: Bea Answer format: option1/option2",
        "the correct answer is option2",
        "option2",
    ),
    "arc_easy": (
        {"question": "Which?", "choices": OPTIONS, "answerKey": "B", "id": "x"},
        "Please choose the correct answer to the question: Which?\n\nAnswer1: red Answer2: green\n\n"
        "Answer format: answer1/answer2",
        "the correct answer is answer2",
        "answer2",
    ),
    "openbookqa": (
        {"question_stem": "Grass is", "choices": OPTIONS, "answerKey": "B"},
        "Please choose the correct answer to the question: Grass is\n\nAnswer1: red Answer2: green\n\n"
        "Answer format: answer1/answer2",
        "the correct answer is answer2",
        "answer2",
    ),
}
HUB_ROWS["singleeq"], HUB_ROWS["arc_challenge"] = HUB_ROWS["addsub"], HUB_ROWS["arc_easy"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """A hub that holds what is put into it, by (dataset, config, split)."""
    held: dict[tuple[str, str | None, str], list] = {}

    def load(dataset: str, config: str | None, *, split: str, revision: str | None) -> list:
        if (dataset, config, split) not in held:
            raise ConnectionError(f"Couldn't reach {dataset}\non the Hub")
        return held[dataset, config, split]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    return held


@pytest.mark.parametrize("name", TEST_SETS)
def test_hub_rows_become_rows_of_the_folder(name: str, hub) -> None:
    source = TEST_SETS[name].hub
    row, instruction, output, answer = HUB_ROWS[name]
    hub[source.dataset, source.config, source.test] = [row]
    (read,) = read_hub(source, source.test).rows
    assert (read.instruction, read.output, read.answer) == (instruction, output, answer)
    assert answer in (choices_of(instruction) or (answer,))
    assert not choices_of(instruction) or f"{answer}" in output


@pytest.mark.parametrize("name", TEST_SETS)
def test_a_malformed_hub_row_is_named_or_counted(name: str, hub) -> None:
    source = TEST_SETS[name].hub
    row = HUB_ROWS[name][0]
    for key in row:
        if key in ("passage", "Type", "id", "result"):
            continue
        hub[source.dataset, source.config, source.test] = [row, {**row, key: None}]
        with pytest.raises(DataError, match=rf"{source.dataset}.*:2: "):
            read_hub(source, source.test)
        assert len(read_hub(source, source.test, max_bad_records=1).skipped) == 1


def test_a_task_from_the_hub(hub) -> None:
    ask = HUB_ROWS["gsm8k"][0]
    hub["openai/gsm8k", "main", "train"] = [ask | {"question": f"Question {i}?"} for i in range(30)]
    hub["openai/gsm8k", "main", "test"] = [ask]
    task = build_task("gsm8k", style="text")
    assert (len(task.train), len(task.validation)) == (27, 3)
    assert set(task.data_hashes) == {"hub:openai/gsm8k/main/train", "hub:openai/gsm8k/main/test"}
    hub["openai/gsm8k", "main", "test"] = [ask | {"question": "question 3"}]
    with pytest.raises(LeakError):
        build_task("gsm8k", style="text")
    assert task.data_hashes != build_task("gsm8k", style="text", leaks="drop").data_hashes


def test_without_the_hub_a_folder_is_asked_for(hub) -> None:
    with pytest.raises(DataError, match=r"hub:openai/gsm8k/main/test.*ConnectionError.*task\.data") as caught:
        build_task("gsm8k", style="text")
    assert "\n" not in str(caught.value)
    hub["MU-NLPC/Calc-mawps", None, "test"] = [HUB_ROWS["mawps"][0]]
    with pytest.raises(DataError, match="manifold-lora data math10k"):
        build_task("mawps", style="text", train="math10k")


@pytest.mark.slow
def test_the_real_library_offline_says_the_same(tmp_path: Path) -> None:
    code = "from manifold_lora.experiments.tasks import build_task; build_task('gsm8k', style='text')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        check=False,
    )
    assert "DataError: hub:openai/gsm8k/main/test: data set: got" in done.stderr
    assert "task.data" in done.stderr.splitlines()[-1]
