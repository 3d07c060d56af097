"""A person's own file as a task: split by question, leaks named, scored, and chosen by --data alone."""

import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.data.leaks import LeakError
from manifold_lora.experiments.data.own import Fields
from manifold_lora.experiments.runs.prepare import task_of
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.run import RunSettings, TaskSettings
from manifold_lora.experiments.tasks import Task, build_task
from manifold_lora.experiments.tasks.own import question_key
from manifold_lora.experiments.tasks.templates import ALPACA


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sums(start: int, end: int) -> list[dict]:
    return [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(start, end)]


def own(path: Path, **options: object) -> Task:
    return build_task("own", path, style="text", **options)


def keys(items: list) -> set[str]:
    return {question_key(item.prompt) for item in items}


def test_a_question_is_in_one_split_alone(tmp_path: Path) -> None:
    rows = sums(0, 40) + [{"question": f"what IS {i} + {i}", "answer": str(2 * i)} for i in range(20)]
    task = own(write(tmp_path / "sums.jsonl", rows))
    (test,) = task.tests.values()
    assert list(task.tests) == ["sums"]
    assert len(task.train) + len(task.validation) + len(test) == 60
    assert task.notes["rows that repeat a question"] == 20
    assert not keys(task.train) & keys(test)
    assert not keys(task.train) & keys(task.validation)
    assert not keys(task.validation) & keys(test)
    assert len(keys(test)) == len(keys(task.validation)) == 4


def test_the_split_is_a_function_of_seed_and_content(tmp_path: Path) -> None:
    path = write(tmp_path / "sums.jsonl", sums(0, 40))
    assert own(path).splits == own(path).splits
    assert own(path, seed=1).train != own(path).train
    assert [len(items) for items in (own(path, held_out=0.25).validation, own(path, limit=3).train)] == [
        10,
        3,
    ]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.JSONL", "rows.jsonl.gz", "rows.tsv"])
def test_a_file_of_another_kind_is_told_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        ManifoldLoraError, match=r"a file of yours: --task own, a \.jsonl, \.json or \.csv file"
    ):
        task_of(TaskSettings(data=tmp_path / name), "embedded")


def test_signs_make_other_questions() -> None:
    assert (
        len({question_key(text) for text in ("3 + 4 =", "3 - 4 =", "3 * 4 =", "34 =", "3.4 =", "-3 4 =")})
        == 6
    )
    assert question_key("Twenty-one,  please!") == question_key("twenty one please")
    assert question_key("What is ３?") == question_key("what is 3")


def test_a_file_of_tests_and_its_leaks(tmp_path: Path) -> None:
    train, tests = write(tmp_path / "a.jsonl", sums(0, 40)), write(tmp_path / "b.jsonl", sums(39, 50))
    with pytest.raises(LeakError, match=r"b\.jsonl: 1 test rows in 1 training rows"):
        own(train, tests=str(tests))
    task = own(train, tests=str(tests), leaks="drop")
    assert {name: len(items) for name, items in task.tests.items()} == {"b": 11}
    assert len(task.train) + len(task.validation) == 39
    assert task.notes["rows in a test"] == 1
    assert len(own(train, tests=str(tests), leaks="allow").train) == 36
    assert set(task.data_hashes) == {"a", "b"}


@pytest.mark.parametrize(
    ("row", "fields", "right", "wrong"),
    [
        ({"question": "{}?", "answer": "12"}, Fields(), "The answer is 12.0", "The answer is 13"),
        ({"question": "{}?", "answer": "12"}, Fields(judge="exact"), " 12 ", "The answer is 12"),
        ({"question": "{}?", "answer": "new  York"}, Fields(), "new York", "New York"),
        ({"question": "{}?", "answer": "B", "choices": ["A", "B"]}, Fields(), "The answer is (B)", "A"),
        ({"question": "{}?", "answer": "yes", "choices": ["yes", "no"]}, Fields(), "Yes.", "no"),
    ],
)
def test_scores(tmp_path: Path, row: dict, fields: Fields, right: str, wrong: str) -> None:
    rows = [{**row, "question": row["question"].format(i)} for i in range(5)]
    task = own(write(tmp_path / "my.jsonl", rows), fields=fields)
    example = task.train[0]
    assert task.score(example, example.target).correct
    assert task.score(example, right).correct
    assert not task.score(example, wrong).correct
    assert not task.score(example, "").correct
    for output in (example.target, right, wrong, ""):
        assert task.is_right(example, output) == task.score(example, output).correct


def test_a_prompt_is_used_as_it_stands_and_a_question_is_framed(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.jsonl", [{"prompt": f"{i} and", "completion": " one"} for i in range(4)])
    assert own(whole).train[0].prompt.endswith(" and")
    assert own(whole).train[0].target == " one"
    framed = own(whole, template=ALPACA).train[0].prompt
    assert framed.startswith("Below is an instruction")
    asked = write(tmp_path / "b.jsonl", sums(0, 4))
    assert own(asked).train[0].prompt.startswith("Question: What is ")


def test_conversations_go_through_the_models_own_template(tmp_path: Path, base: str) -> None:
    turns = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1?"}]
    rows = [
        {
            "messages": [
                *turns[:1],
                {"role": "user", "content": f"{i}?"},
                {"role": "assistant", "content": "2"},
            ]
        }
        for i in range(4)
    ]
    path = write(tmp_path / "chat.jsonl", rows)
    settings = TaskSettings(data=path)
    with pytest.raises(ManifoldLoraError, match="chat template of model"):
        task_of(settings, base)
    copy_with_template(Path(base), tmp_path / "model")
    example = task_of(settings, str(tmp_path / "model")).train[0]
    assert example.prompt.startswith("[system]Add.[user]")
    assert example.prompt.endswith("[assistant]")
    assert example.target == "2"


def copy_with_template(base: Path, folder: Path) -> None:
    from manifold_lora.models.load import load_tokenizer

    tokenizer = load_tokenizer(str(base))
    turns = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}[assistant]{% endif %}"
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "gsm8k"}, "task.train"),
        ({"held_out": 0.49}, "questions"),
        ({"tests": "nowhere.jsonl"}, "nowhere.jsonl: file"),
        ({"fields": Fields(prompt="q")}, ":1: row"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict, message: str) -> None:
    path = write(tmp_path / "my.jsonl", sums(0, 2))
    with pytest.raises(ManifoldLoraError) as caught:
        own(path, **options)
    assert message in str(caught.value)


# A row among forty sums, and what is said of it.
SLIPS: dict[str, tuple[dict, str]] = {
    "words": ({"answer": "thirty-one"}, "'thirty-one' among 40 that are judged by number"),
    "a unit": ({"answer": "31 apples"}, "task.judge stated"),
    "inf": ({"answer": "inf"}, "'inf' among 40"),
    "1e400": ({"answer": float("inf")}, "sums.jsonl:41"),
    "a comma that is no thousand": ({"answer": "1,23"}, "'1,23' among 40"),
    "an invisible question": ({"question": "\u200b", "answer": "1"}, "prompt: got '\\u200b'"),
}


@pytest.mark.parametrize("case", SLIPS)
def test_one_slip_does_not_change_how_all_rows_are_judged(tmp_path: Path, case: str) -> None:
    row, message = SLIPS[case]
    path = write(tmp_path / "sums.jsonl", [*sums(0, 40), {"question": "What else?"} | row])
    path.write_text(path.read_text().replace("Infinity", "1e400"))
    with pytest.raises(ManifoldLoraError) as caught:
        own(path)
    assert message in str(caught.value)


def test_an_id_that_another_row_has_by_its_place_is_refused(tmp_path: Path) -> None:
    """Results are paired by it."""
    tests = [sums(50, 51)[0], sums(51, 52)[0] | {"id": "held-0"}]
    held = write(tmp_path / "held.jsonl", tests)
    with pytest.raises(DataError, match="id of held: got 'held-0'"):
        own(write(tmp_path / "sums.jsonl", sums(0, 40)), tests=str(held))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="a regular file"):
        own(tmp_path / "pipe.jsonl")


def test_other_tasks_have_their_own_fields() -> None:
    with pytest.raises(ManifoldLoraError, match="field names of an own file"):
        build_task("taxonomy", fields=Fields(prompt="question"))


def test_a_file_given_as_data_is_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "my.jsonl", sums(0, 10))
    assert TaskSettings(data=path).name == "own"
    assert TaskSettings(data=tmp_path).name == "taxonomy"
    assert TaskSettings(data=path, name="gsm8k").name == "gsm8k"
    with pytest.raises(ManifoldLoraError, match="a folder"):
        build_task("gsm8k", path, style="text")


def test_a_cell_is_named_by_content_and_not_by_place(tmp_path: Path) -> None:
    runs = [RunSettings(task={"data": tmp_path / name, "tests": name}) for name in ("a.jsonl", "b.jsonl")]
    assert len({cell_id(run, {"a": "hash"}) for run in runs}) == 1
    other = RunSettings(task={"data": tmp_path / "a.jsonl", "judge": "exact"})
    assert cell_id(other, {"a": "hash"}) != cell_id(runs[0], {"a": "hash"})
