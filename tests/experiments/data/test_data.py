"""Every fault of a data file is named by file and line; good rows are read as they are."""

import hashlib
import json
from pathlib import Path

import pytest

from manifold_lora.experiments.data.files import DataError, read_rows
from manifold_lora.experiments.data.rows import ChoiceRow, EquationRow, InstructionRow, ProblemRow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def row(**changes: object) -> dict[str, object]:
    good = {"id": "a-1", "instruction": "Tom has 3 apples and 4 pears. How many?", "answer": "7"}
    return {key: value for key, value in (good | changes).items() if value is not None}


def choice(**changes: object) -> dict[str, object]:
    return row(instruction="Which? Answer Choices: (A) 1 (B) 2 (C) 3", answer="B") | changes


def listed(*rows: object) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n").encode()


GOOD = row(id="a-0")
# content, schema, line of the fault, words of the reason
FAULTS: dict[str, tuple[bytes, type[InstructionRow], int, str]] = {
    "bad JSON": (b'[\n{"id": "a", \n]', ProblemRow, 2, "JSON"),
    "not a list": (b'{"id": "a"}', ProblemRow, 1, "'['"),
    "cut off": (listed(GOOD, row())[:-30], ProblemRow, 3, "JSON"),
    "text after the list": (listed(GOOD) + b"[]", ProblemRow, 4, "nothing after"),
    "missing comma": (b"[\n" + json.dumps(GOOD).encode() + b"\n{}]", ProblemRow, 3, "','"),
    "missing field": (listed(GOOD, row(answer=None)), ProblemRow, 3, "answer"),
    "extra field": (listed(GOOD, row(instrution="x")), ProblemRow, 3, "instrution"),
    "NaN": (b'[\n{"id": "a", "instruction": "b", "answer": NaN}\n]', ProblemRow, 2, "NaN"),
    "answer NaN": (listed(GOOD, row(answer="nan")), ProblemRow, 3, "not a finite number"),
    "40-digit answer": (listed(GOOD, row(answer="9" * 40)), ProblemRow, 3, "1e15"),
    "answer is no number": (listed(GOOD, row(answer="seven")), ProblemRow, 3, "not a finite number"),
    "integer among strings": (listed(GOOD, row(answer=7)), ProblemRow, 3, "string"),
    "list for text": (listed(GOOD, row(instruction=["x"])), ProblemRow, 3, "string"),
    "row is a string": (listed(GOOD, "row"), ProblemRow, 3, "row"),
    "NUL": (listed(GOOD, row(instruction="a\0b")), ProblemRow, 3, "control character"),
    "lone surrogate": (listed(GOOD, row(instruction="a\ud800b")), ProblemRow, 3, "control character"),
    "blank text": (listed(GOOD, row(instruction="  ")), ProblemRow, 3, "empty"),
    "duplicate id": (listed(GOOD, GOOD), ProblemRow, 3, "line 2 has it"),
    "duplicate key": (b'[\n{"id": "a", "id": "b"}\n]', ProblemRow, 2, "twice"),
    "byte order mark": (b"\xef\xbb\xbf" + listed(GOOD), ProblemRow, 1, "byte order mark"),
    "not UTF-8": (b'[\n{"id": "\xff"}]', ProblemRow, 2, "UTF-8"),
    "empty file": (b"", ProblemRow, 1, "of a JSON list"),
    "empty list": (b"[]", ProblemRow, 1, "at least one row"),
    "wrong letter": (listed(choice(answer="F")), ChoiceRow, 2, "answer"),
    "letter not offered": (listed(choice(answer="D")), ChoiceRow, 2, "(D)"),
    "deeply nested": (b"[\n" + b"[" * 100_000 + b"]" * 100_000 + b"]", ProblemRow, 2, "JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_and_line(fault: str, tmp_path: Path) -> None:
    content, schema, line, words = FAULTS[fault]
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(path, schema)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert words in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("bad", [b'{"source": ', b'"text"', b"{}", b"NaN", b"null"])
def test_a_bad_line_is_named(bad: bytes, tmp_path: Path) -> None:
    good = json.dumps(
        {"source": "s", "instruction": "i 1", "output": "o", "answer": "1", "equation": "X=1"}
    ).encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([good, b"", bad, good]))
    with pytest.raises(DataError, match=r"rows\.jsonl:3: "):
        read_rows(path, EquationRow)
    read = read_rows(path, EquationRow, max_bad_records=1)
    assert len(read.rows) == 2
    assert len(read.skipped) == 1
    assert read.skipped[0].startswith(f"{path}:3: ")


def test_an_allowance_counts_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(listed(GOOD, row(answer=7), row(id="a-2"), row(answer="x")))
    read = read_rows(path, ProblemRow, max_bad_records=2)
    assert [good.id for good in read.rows] == ["a-0", "a-2"]
    assert [reason.removeprefix(f"{path}:")[0] for reason in read.skipped] == ["3", "5"]
    with pytest.raises(DataError, match=r":5: "):
        read_rows(path, ProblemRow, max_bad_records=1)


def test_no_row_left_is_an_error_whatever_the_allowance(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(listed(row(answer=7)))
    with pytest.raises(DataError, match="at least one row"):
        read_rows(path, ProblemRow, max_bad_records=9)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "mawps.json").write_bytes(listed(GOOD))
    with pytest.raises(DataError, match=r"did you mean 'mawps\.json'"):
        read_rows(tmp_path / "maws.json", ProblemRow)


def test_good_rows_and_the_hash_of_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "größe 1.json"
    path.write_bytes(listed(GOOD, row(answer="-1,000.5")))
    read = read_rows(path, ProblemRow)
    assert [good.answer for good in read.rows] == ["7", "-1,000.5"]
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize(
    ("name", "schema", "rows"),
    [
        ("tests/mawps.json", ProblemRow, 238),
        ("tests/AddSub.json", ProblemRow, 395),
        ("tests/MultiArith.json", ProblemRow, 600),
        ("tests/SVAMP.json", ProblemRow, 1000),
        ("tests/gsm8k.json", ProblemRow, 1119),
        ("tests/AQuA.json", ChoiceRow, 254),
        ("train/mawps_train_equations.jsonl", EquationRow, 1352),
    ],
)
def test_the_real_files_read_whole(name: str, schema: type[InstructionRow], rows: int) -> None:
    read = read_rows(DATA / name, schema)
    assert len(read.rows) == rows
    assert read.sha256 in (DATA / "README.md").read_text(encoding="utf-8")
