"""The Math-10K recipe: each question once, none that is tested, and the shipped rebuild byte by byte."""

import hashlib
import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.data.files import DataError, read_rows
from manifold_lora.experiments.data.math10k import Counts, rebuild
from manifold_lora.experiments.data.rows import MathRow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def school(question: str, number: str) -> dict[str, str]:
    return {"question": question, "answer": f"Half is 4/2 = <<4/2=2>>2\nSo it is\n#### {number}"}


def equation(question: str) -> dict[str, str]:
    output = "The equation is X=2+2. The answer is 4."
    return {"source": "s", "instruction": question, "output": output, "answer": "4", "equation": "X=2+2"}


def letter(question: str) -> dict[str, str]:
    text = f"{question} Answer Choices: (A) 1 (B) 2"
    return {"source": "s", "instruction": text, "output": "The answer is (A).", "answer": "A"}


def asked(question: str) -> dict[str, str]:
    return {"id": question, "instruction": question, "answer": "4"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "train/gsm8k_train": [school("Gone?", "1,000"), school("Tested 1", "3")],
        "train/mawps_train_equations": [equation("m 1"), equation("M, 1!"), equation("Also added")],
        "train/mawps_single_train_equations": [equation("gone"), equation("s 1"), equation("in svamp")],
        "train/aqua_train_flan": [letter(f"a {place}") for place in range(5)],
        "tests/gsm8k": [asked("tested 1")],
        "tests/AQuA": [asked("a 3 Answer Choices: (A) 7")],
        "tests/mawps": [asked("nothing")],
        "tests/SVAMP": [asked("In SVAMP")],
        "tests/AddSub": [asked("also, added")],
        "tests/MultiArith": [asked("nothing else")],
    }
    for name, rows in files.items():
        path = tmp_path / f"{name}.{'jsonl' if name.startswith('train') else 'json'}"
        path.parent.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows))
    return tmp_path


def test_each_question_once_and_none_that_is_tested(folder: Path) -> None:
    built = rebuild(folder, aqua_rows=3)
    assert built.counts == {
        "gsm8k_train": Counts(read=2, repeated=0, tested=1, not_drawn=0, kept=1),
        "mawps_train": Counts(3, 1, 0, 0, 2),
        "mawps_single_train": Counts(3, 1, 1, 0, 1),
        "aqua_train": Counts(5, 0, 1, 1, 3),
    }
    assert [row.instruction for row in built.rows[:4]] == ["Gone?", "m 1", "Also added", "s 1"]
    assert built.rows[0].output == "Half is 4/2 = 2 So it is The answer is 1000."
    assert [row.also_in for row in built.rows[:4]] == [[], [], ["AddSub"], []]
    assert built.also_in == {"AddSub": 1, "MultiArith": 0}


def test_the_draw_is_the_seed_alone(folder: Path) -> None:
    drawn = {rebuild(folder, aqua_rows=2, seed=seed).sha256 for seed in (0, 0, 1, 2, 3)}
    assert 1 < len(drawn) < 5


def test_too_many_rows_and_missing_files_are_refused(folder: Path) -> None:
    with pytest.raises(ManifoldLoraError, match="0 to 4"):
        rebuild(folder, aqua_rows=5)
    (folder / "tests" / "SVAMP.json").unlink()
    with pytest.raises(DataError, match=r"SVAMP\.json"):
        rebuild(folder)
    with pytest.raises(DataError, match="a folder with train/ and tests/"):
        rebuild(folder / "none")


def test_the_verb_writes_what_reads_back(folder: Path, capsys) -> None:
    output = folder / "out put" / "math10k.jsonl"
    command = ["data", "math10k", "--data", str(folder), "--output", str(output), "--aqua-rows", "4"]
    assert main(command) == 0
    read = read_rows(output, MathRow)
    message = capsys.readouterr().out
    assert len(read.rows) == 8
    assert read.sha256 in message
    assert "1 rows hold questions of AddSub" in message


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_the_shipped_rebuild_byte_by_byte() -> None:
    shipped = (DATA / "train" / "math10k_rebuild.jsonl").read_bytes()
    assert rebuild(DATA).sha256 == hashlib.sha256(shipped).hexdigest()
