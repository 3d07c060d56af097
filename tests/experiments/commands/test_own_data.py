"""--data FILE from the command line: an adapter trained on a person's own file, faults in one line."""

import json
from pathlib import Path

import pytest

from manifold_lora.experiments.cli import main

RECIPE = ["--train.steps", "2", "--train.batch-size", "4", "--evaluation.max-new-tokens", "2"]
# The base knows no digits: no answer could be right.
RECIPE += ["--preflight", "warn"]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    rows = [{"frage": f"lca {i} {i} =>", "zahl": i} for i in range(20)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_one_flag_trains_on_a_file(sums: Path, base: str, tmp_path: Path) -> None:
    names = ["--task.prompt_field", "frage", "--task.answer_field", "zahl"]
    command = [
        "train",
        "--data",
        str(sums),
        "--model",
        base,
        "--output",
        str(tmp_path / "run"),
        *names,
        *RECIPE,
    ]
    assert main(command) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["run"]["task"]["name"] == "own"
    assert {name: entry["items"] for name, entry in result["evaluation"].items()} == {
        "validation": 2,
        "sums": 2,
    }
    assert result["meta"]["notes"]["answers judged by number"] == 20
    assert set(result["meta"]["inputs"]) == {"sums", "base"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "sums.jsonl:1: row: got"),
        (["--task.prompt_field", "nope"], "field nope is missing; the row has frage, zahl"),
        (
            ["--task.prompt_field", "frage", "--task.answer_field", "frage", "--task.judge", "number"],
            "not a finite number",
        ),
        (
            ["--task.prompt_field", "frage", "--task.answer_field", "zahl", "--task.tests", "no.jsonl"],
            "no.jsonl",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(
    flags: list[str], message: str, sums: Path, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(sums), "--model", base, "--output", str(tmp_path / "run"), *flags]
    assert main(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert not (tmp_path / "run").exists()
