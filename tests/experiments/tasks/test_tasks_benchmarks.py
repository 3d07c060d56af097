"""Benchmarks by name: whole test sets, training rows outside them, settings that reach the task."""

import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.leaks import LeakError, normalise
from manifold_lora.experiments.data.sets import GROUPS, TEST_SETS, TRAIN_SETS
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.run import TaskSettings
from manifold_lora.experiments.tasks import TASKS, Task, build_task

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")

# task -> training rows, validation rows, tests; of the files in ../shared/data.
REAL = {
    "gsm8k": (7353, 120, {"gsm8k": 1119}),
    "aqua": (2139, 254, {"aqua": 254}),
    "mawps": (1305, 167, {"mawps": 238}),
    "svamp": (1305, 167, {"svamp": 1000}),
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


def test_unknown_names_are_reported_before_a_file_is_read() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'winogrande'"):
        build_task("winogrand", "/no/such/folder", style="text")
