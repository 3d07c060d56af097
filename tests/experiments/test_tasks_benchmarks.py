"""Benchmarks by name: whole test sets, training rows outside them, the hub's rows in the folder's format."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from manifold_lora.experiments.config import TaskSettings
from manifold_lora.experiments.data import DataError
from manifold_lora.experiments.leaks import LeakError, normalise
from manifold_lora.experiments.prepare import task_of
from manifold_lora.experiments.rows import choices_of
from manifold_lora.experiments.tasks import TASKS, Task, build_task
from manifold_lora.experiments.tasks.hub import read_hub
from manifold_lora.experiments.tasks.sets import GROUPS, TEST_SETS, TRAIN_SETS
from manifold_lora.manifolds.errors import ManifoldLoraError, UnknownNameError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")

# task -> training rows, validation rows, tests; of the files in ../shared/data.
REAL = {
    "gsm8k": (7353, 120, {"gsm8k": 1119}),
    "aqua": (2139, 254, {"aqua": 254}),
    "mawps": (2013, 167, {"mawps": 238}),
    "svamp": (2013, 167, {"svamp": 1000}),
    "math10k": (9770, 120, {"mawps": 238, "svamp": 1000, "gsm8k": 1119, "aqua": 254}),
    "arc_easy": (2129, 120, {"arc_easy": 2376}),
    "arc_challenge": (1007, 111, {"arc_challenge": 1172}),
    "openbookqa": (4832, 120, {"openbookqa": 500}),
}


def question(example) -> str:
    return normalise(example.prompt.removeprefix("Question: ").removesuffix("\nAnswer:"))


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_a_benchmark_from_the_real_files(name: str) -> None:
    task = build_task(name, DATA, style="text")
    sizes = {test: len(items) for test, items in task.tests.items()}
    assert (len(task.train), len(task.validation), sizes) == REAL[name]
    tested = {question(item) for items in task.tests.values() for item in items}
    chosen = {question(item) for item in task.validation}
    learned = {question(item) for item in task.train}
    assert not tested & (learned | chosen)
    assert not learned & chosen
    assert task.data_hashes
    for example in [*task.train[:20], *task.validation[:20]]:
        scored = task.score(example, example.target)
        assert scored.correct
        assert scored.agree
        assert not task.score(example, "").correct


@needs_data
def test_a_benchmark_is_a_function_of_its_seed_and_files() -> None:
    first, again, other = (build_task("aqua", DATA, seed, style="text") for seed in (0, 0, 1))
    assert first.train == again.train
    assert first.train != other.train
    assert {item.prompt for item in first.train} == {item.prompt for item in other.train}


@needs_data
def test_the_files_without_training_rows_are_judged_by_what_was_learned_elsewhere() -> None:
    tests = ["piqa", "social_i_qa", "winogrande"]
    task = build_task("piqa", DATA, style="text", train=["arc_easy", "openbookqa"], tests=tests)
    assert {name: len(items) for name, items in task.tests.items()} == {
        "piqa": 1838,
        "social_i_qa": 1954,
        "winogrande": 1267,
    }
    assert {len(item.choices) for item in task.tests["social_i_qa"]} == {3}


@needs_data
def test_leaking_rows_are_refused_dropped_or_allowed_and_counted() -> None:
    with pytest.raises(LeakError, match="addsub: 225 test rows in 225 training rows"):
        build_task("addsub", DATA, style="text", train="math10k")
    dropped = build_task("addsub", DATA, style="text", train="math10k", leaks="drop")
    allowed = build_task("addsub", DATA, style="text", train="math10k", leaks="allow")
    assert len(allowed.train) + len(allowed.validation) == 9890
    assert len(dropped.train) + len(dropped.validation) == 9890 - 225
    for task, left_out in ((dropped, 225), (allowed, 0)):
        assert task.notes["train rows in test addsub"] == task.notes["addsub rows in train"] == 225
        assert task.notes["train rows left out for that"] == left_out


def small(folder: Path) -> Path:
    """GSM8K with 20 training rows and one test row."""
    for name in ("train", "tests"):
        (folder / name).mkdir(parents=True)
    rows = [
        {"question": f"Add {i} to 2?", "answer": f"{i} + 2 = <<>>{i + 2}\n#### {i + 2}"} for i in range(20)
    ]
    (folder / "train" / "gsm8k_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tests = [{"id": "t", "instruction": "Add 40 to 2?", "answer": "42.0"}]
    (folder / "tests" / "gsm8k.json").write_text(json.dumps(tests))
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "gsm8", "style": "text"}, "did you mean 'gsm8k'"),
        ({"name": "gsm8k"}, "set model.name"),
        ({"name": "gsm8k", "style": "text", "train": "math10"}, "did you mean 'math10k'"),
        ({"name": "gsm8k", "style": "text", "tests": ["gsm8k", "mawp"]}, "did you mean 'mawps'"),
        ({"name": "gsm8k", "style": "text", "train": {"a": 1}}, "a name or a list of names"),
        ({"name": "gsm8k", "style": "text", "leaks": "alow"}, "did you mean 'allow'"),
        ({"name": "gsm8k", "style": "text", "data": "/no/such"}, "a folder with train/"),
        ({"name": "taxonomy", "train": "gsm8k"}, "has its own"),
    ],
)
def test_a_bad_request_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ManifoldLoraError) as caught:
        build_task(**arguments)
    assert words in str(caught.value)


def test_an_embedded_base_is_not_made_of_a_benchmark(tmp_path: Path) -> None:
    task = build_task("gsm8k", small(tmp_path), style="text")
    assert (len(task.train), len(task.validation)) == (18, 2)
    with pytest.raises(ManifoldLoraError, match=r"set model\.name"):
        _ = task.base_spec
    with pytest.raises(ManifoldLoraError, match=r"set model\.name"):
        task_of(TaskSettings(name="gsm8k", data=tmp_path), "embedded")


def test_settings_reach_the_task(tmp_path: Path) -> None:
    settings = TaskSettings(
        name="gsm8k", data=small(tmp_path), template="alpaca", limit=3, completion_only=False
    )
    task: Task = task_of(settings, "some/model")
    assert len(task.train) == 3
    assert all(example.learn_prompt for example in task.train)
    assert not any(example.learn_prompt for example in task.validation)
    assert task.train[0].prompt.startswith("Below is an instruction that describes a task. Write a response")
    assert task.train[0].prompt.endswith("\n\n### Response:\n")
    assert task.train[0].target.endswith(f"The answer is {task.train[0].answer}.")
    assert set(task.data_hashes) == {"train/gsm8k_train.jsonl", "tests/gsm8k.json"}
    assert task.notes["malformed rows"] == 0


def test_every_name_is_a_task_and_every_set_has_a_source() -> None:
    assert {*TEST_SETS, *GROUPS} <= set(TASKS)
    for name, judged in TEST_SETS.items():
        assert judged.train in TRAIN_SETS, name
        assert judged.file.split("/")[0] in ("tests", "commonsense")
    for train, tests in GROUPS.values():
        assert set(train) <= set(TRAIN_SETS)
        assert set(tests) <= set(TEST_SETS)
    # Nothing is chosen by what it is judged by.
    for judged in TEST_SETS.values():
        hub = judged.hub
        assert hub.test not in (hub.train, hub.validation)


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


def test_unknown_names_are_told_before_a_file_is_read() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'winogrande'"):
        build_task("winogrand", "/no/such/folder", style="text")
