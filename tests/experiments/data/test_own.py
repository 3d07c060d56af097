"""Rows of a person's own file: every shape that TRL reads, every judge, and bad rows by path and line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.files import DataError, read_rows
from manifold_lora.experiments.data.own import Fields, OwnRow, judge_of, own_rows

Read = Callable[..., list[OwnRow]]
USUAL = Fields()


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(*rows: object, fields: Fields = USUAL, name: str = "my.jsonl", text: str = "") -> list[OwnRow]:
        path = tmp_path / name
        path.write_text(text or "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_rows(path, own_rows(fields)).rows

    return read


USER, SYSTEM = {"role": "user", "content": "Two?"}, {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "2"}


@pytest.mark.parametrize(
    ("row", "prompt", "target", "answer"),
    [
        ({"prompt": "The sky is", "completion": " blue."}, "The sky is", " blue.", "blue."),
        ({"question": "Two?", "answer": 2}, "Two?", "2", "2"),
        ({"question": "Two?", "answer": 2.5}, "Two?", "2.5", "2.5"),
        (
            {"instruction": "Add.", "input": "1 and 1", "output": "It is 2."},
            "Add.\n\n1 and 1",
            "It is 2.",
            "It is 2.",
        ),
        ({"instruction": "Add.", "output": "It is 2.", "answer": "2"}, "Add.", "It is 2.", "2"),
        ({"messages": [SYSTEM, USER, ANSWER]}, "Be brief.\nTwo?", "2", "2"),
        ({"prompt": [USER], "completion": [ANSWER]}, "Two?", "2", "2"),
        ({"prompt": "Who?", "completion": "x", "note": {"any": [1]}}, "Who?", "x", "x"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_the_shapes_of_a_row(read: Read, row: dict, prompt: str, target: str, answer: str) -> None:
    (found,) = read(row)
    assert (found.prompt, found.target, found.answer) == (prompt, target, answer)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Two?", "answer": "2", "output": ""}, "target: got ''; allowed: is empty"),
        (
            {"question": "Two?", "answer": "2", "output": "a\0"},
            r"target: got 'a\\x00'; allowed: holds the control",
        ),
        ({"question": "Two?", "answer": "b", "choices": ["a", "b", "B "]}, "choices repeats a choice"),
        ({"question": 10**400, "answer": ["2"]}, "no text"),
    ],
    ids=[
        "nothing to learn",
        "a control character to learn",
        "choices alike but for capitals",
        "a huge number",
    ],
)
def test_rows_that_can_not_be_learned_or_judged(read: Read, row: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(row)


@pytest.mark.parametrize("slip", ["4_9", "1e16", "-1e300", "1" + "0" * 400])
def test_a_slip_among_numbers_is_no_number(read: Read, slip: str) -> None:
    """Under ``task.judge: auto`` as well, what no file of numbers may hold."""
    rows = read(
        *({"question": f"{i}?", "answer": str(i)} for i in range(40)), {"question": "?", "answer": slip}
    )
    with pytest.raises(ManifoldLoraError, match=r"one kind, or task\.judge stated"):
        judge_of(rows)


def test_a_value_that_is_no_json_is_named_as_it_stands(read: Read) -> None:
    with pytest.raises(DataError, match="'answer': NaN is not JSON}"):
        read(text='{"question": "a", "answer": NaN}')


def test_a_conversation_keeps_its_turns(read: Read) -> None:
    (row,) = read({"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]})
    assert row.messages == (SYSTEM, USER, ANSWER, USER)


def test_flags_name_fields(read: Read) -> None:
    fields = Fields(prompt="frage", target="weg", answer="zahl", choices="wahl")
    (row,) = read({"frage": "a oder b?", "weg": "Es ist b.", "zahl": "b", "wahl": ["a", "b"]}, fields=fields)
    assert (row.prompt, row.target, row.answer, row.choices) == ("a oder b?", "Es ist b.", "b", ("a", "b"))
    assert not row.verbatim


def test_the_answer_is_read_from_the_target_where_none_is_stated(read: Read) -> None:
    worked = {"prompt": "Two and two?", "completion": "2 + 2 = 4. The answer is 4."}
    (row,) = read(worked, fields=Fields(judge="number"))
    assert row.answer == "4"
    (row,) = read({"prompt": "Sky?", "completion": "So it is (B).", "choices": ["A", "B"]})
    assert row.answer == "B"


def test_how_answers_are_judged(read: Read) -> None:
    assert judge_of(read({"question": "1", "answer": "1,000"}, {"question": "2", "answer": -3})) == "number"
    assert judge_of(read({"question": "1", "answer": "1"}, {"question": "2", "answer": "one"})) == "exact"
    chosen = [{"question": "x", "answer": "yes", "choices": ["yes", "no"]}] * 2
    assert judge_of(read(*chosen)) == "choice"
    offered = {"instruction": "Which? Answer Choices: (A) 1 (B) 2", "answer": "B"}
    assert judge_of(read(offered)) == "choice"


BAD = {
    "no question": ({"q": "x", "answer": "1"}, Fields(), "task.prompt_field"),
    "no answer": ({"question": "x"}, Fields(), "field answer is missing; the row has question"),
    "no such field": ({"question": "x", "answer": "1"}, Fields(prompt="q"), "field q is missing"),
    "empty question": ({"question": " ", "answer": "1"}, Fields(), "is empty"),
    "empty answer": ({"question": "x", "answer": ""}, Fields(), "is empty"),
    "null answer": ({"question": "x", "answer": None}, Fields(), "is no text"),
    "true for an answer": ({"question": "x", "answer": True}, Fields(), "is no text"),
    "a list": ([1], Fields(), "is no object"),
    "NaN": ({"question": "x", "answer": float("nan")}, Fields(), "answer"),
    "not a number": ({"question": "x", "answer": "4_9"}, Fields(judge="number"), "not a finite number"),
    "not among the choices": ({"question": "x", "answer": "c", "choices": ["a", "b"]}, Fields(), "a/b"),
    "no choices": ({"question": "x", "answer": "c"}, Fields(judge="choice"), "not among the choices"),
    "one choice": ({"question": "x", "answer": "a", "choices": ["a"]}, Fields(), "two texts or more"),
    "a choice twice": ({"question": "x", "answer": "a", "choices": ["a", "a"]}, Fields(), "repeats"),
    "ends on the user": ({"messages": [ANSWER, USER]}, Fields(), "answer of the assistant"),
    "one turn": ({"messages": [ANSWER]}, Fields(), "answer of the assistant"),
    "a role of its own": ({"messages": [{"role": "bot", "content": "x"}, ANSWER]}, Fields(), "role"),
    "messages of text": ({"messages": ["Two?", "2"]}, Fields(), "role"),
    "prompt without completion": ({"prompt": [USER]}, Fields(), "completion is no list"),
    "control character": ({"question": "a\0b", "answer": "1"}, Fields(), "control character"),
    "too long": ({"question": "x" * 1_000_001, "answer": "1"}, Fields(), "longer than 1000000"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_by_path_and_line(read: Read, tmp_path: Path, name: str) -> None:
    row, fields, reason = BAD[name]
    with pytest.raises(DataError) as caught:
        read({"question": "x", "answer": "1", "q": "y", "choices": ["1", "2"]}, row, fields=fields)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'my.jsonl'}:2: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 500


def test_csv_has_a_header(read: Read) -> None:
    text = 'question,answer\n"What is ""two"",\nin digits?",2\n\nThree?,3\n'
    rows = read(name="my.csv", text=text)
    assert [(row.prompt, row.answer) for row in rows] == [
        ('What is "two",\nin digits?', "2"),
        ("Three?", "3"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("question,answer\nTwo?,2\nThree?\n", 3, "1 values under a header of 2"),
        ('question,answer\nTwo?,2\n"Three?,3\n', 3, "CSV"),
        ("question,question\nTwo?,2\n", 1, "header"),
        ("question,answer\nTwo?,\n", 2, "field answer is missing"),
        ("question,answer\n", 1, "at least one row"),
    ],
)
def test_bad_csv(read: Read, tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        read(name="my.csv", text=text)
    assert str(caught.value).startswith(f"{tmp_path / 'my.csv'}:{line}: ")
    assert reason in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
ROWS = st.dictionaries(
    st.sampled_from(
        ["prompt", "question", "instruction", "completion", "answer", "choices", "messages", "id"]
    ),
    JSON | st.text(),
)


@given(row=ROWS, judge=st.sampled_from([None, "number", "choice", "exact"]))
def test_any_row_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, row: dict, judge: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    try:
        (found,) = read_rows(path, own_rows(Fields(judge=judge))).rows
    except DataError as error:
        wording = str(error)
    else:
        wording = ""
        assert found.prompt.strip()
        assert found.answer.strip()
        assert not found.choices or judge in ("number", "exact") or found.answer in found.choices
    assert not wording or wording.startswith(f"{path}:1: ")
    assert "\n" not in wording
