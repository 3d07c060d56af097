"""R12: a bad dataset is reported as `path:line: reason`, or its bad rows are counted; nothing is lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.tasks import Task, build_task

# The file that is spoiled -> the task that reads it.
TASKS = {
    "tests/gsm8k.json": "gsm8k",
    "tests/AQuA.json": "aqua",
    "train/gsm8k_train.jsonl": "gsm8k",
    "train/math10k_rebuild.jsonl": "math10k",
    "commonsense/ARC-Easy.test.json": "arc_easy",
}
OFFER = "Answer Choices: (A) 1 (B) 2 (C) 3 (D) 4 (E) 5"
LABELS = "Answer1: x Answer2: y\n\nAnswer format: answer1/answer2"


def rows_of(file: str) -> list[dict[str, object]]:
    """Twelve good rows of a file; no question is in two files."""
    asked = [f"{file} question {place} of {place + 2}?" for place in range(12)]
    if file == "train/gsm8k_train.jsonl":
        return [{"question": text, "answer": f"1+1 = <<1+1=2>>2\n#### {i}"} for i, text in enumerate(asked)]
    output = {"output": "The answer is 7.", "answer": "7"}
    if file == "train/math10k_rebuild.jsonl":
        return [{"source": "s", "instruction": text, **output, "also_in": []} for text in asked]
    named = [{"id": f"r-{place}", "instruction": text, "answer": "7"} for place, text in enumerate(asked)]
    if "AQuA" in file:
        return [row | {"instruction": f"{row['instruction']} {OFFER}", "answer": "B"} for row in named]
    if "commonsense" in file:
        extra = {"output": "the correct answer is answer2"} if "train" in file else {}
        return [
            row | {"instruction": f"{row['instruction']}\n\n{LABELS}", "answer": "answer2", **extra}
            for row in named
        ]
    return named


FILES = [*TASKS, *(f"tests/{name}.json" for name in ("mawps", "SVAMP")), "commonsense/ARC-Easy.train.json"]
FILES += ["train/aqua_train_flan.jsonl", "train/aqua_dev.jsonl"]


def aqua_rows(file: str) -> list[dict[str, object]]:
    text = [f"{file} {place} of 3? {OFFER}" for place in range(12)]
    return [
        {"source": "s", "instruction": each, "output": "The answer is (B).", "answer": "B"} for each in text
    ]


def lines_of(file: str, rows: list[dict[str, object]]) -> list[bytes]:
    """A row a line, in lists as well, so that the line of a row is its place (+ 2 in a list, + 1 else)."""
    lines = [json.dumps(row).encode() for row in rows]
    if file.endswith(".jsonl"):
        return lines
    return [b"[", *(line + b"," for line in lines[:-1]), lines[-1], b"]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in FILES:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        rows = aqua_rows(file) if "train/aqua" in file else rows_of(file)
        path.write_bytes(b"\n".join(lines_of(file, rows)))
    return tmp_path


Spoil = Callable[[bytes], bytes]


def field(name: str, value: object) -> Spoil:
    """Replace a field of a row, or remove it (None); other fields stay as they are."""

    def spoil(line: bytes) -> bytes:
        row = json.loads(line.rstrip(b","))
        row[name] = value
        row = {key: each for key, each in row.items() if each is not None}
        return json.dumps(row).encode() + (b"," if line.endswith(b",") else b"")

    return spoil


def text(old: bytes, new: bytes) -> Spoil:
    return lambda line: line.replace(old, new, 1)


@dataclass(frozen=True)
class Fault:
    """``spoil`` is done to the sixth row, or to the whole file; ``reported`` is in the reason."""

    file: str
    spoil: Spoil
    wording: str
    whole: bool = False
    line: int = 0  # of a fault of the whole file


G, A, T, M, C = TASKS
ROW_FAULTS = {
    "bad JSON line": Fault(T, text(b'"answer"', b'"answer'), "JSON"),
    "missing field": Fault(G, field("answer", None), "answer"),
    "misspelt field": Fault(G, field("instrution", "x"), "instrution"),
    "NaN": Fault(G, text(b'"7"', b"NaN"), "answer"),
    "answer nan": Fault(G, field("answer", "nan"), "not a finite number"),
    "answer infinity": Fault(M, field("answer", "-inf"), "not a finite number"),
    "40-digit integer": Fault(G, field("answer", "9" * 40), "1e15"),
    "integer among strings": Fault(G, field("answer", 7), "string"),
    "NUL": Fault(G, field("instruction", "a\0b"), "control character"),
    "lone surrogate": Fault(G, field("instruction", "a\ud800b"), "control character"),
    "blank question": Fault(G, field("instruction", " \n"), "empty"),
    "duplicate id": Fault(G, field("id", "r-2"), "an id not yet used"),
    "duplicate key": Fault(T, text(b'{"question"', b'{"question": "x", "question"'), "twice"),
    "wrong AQuA letter": Fault(A, field("answer", "F"), "answer"),
    "letter not offered": Fault(
        A, field("instruction", "Which? Answer Choices: (A) 1"), "not among the choices"
    ),
    "label not offered": Fault(C, field("answer", "answer3"), "not among the choices"),
    "answer without ####": Fault(T, field("answer", "it is two"), "not a finite number"),
    "row is a list": Fault(M, lambda _: b"[1, 2]", "row"),
    "row is null": Fault(M, lambda _: b"null", "row"),
    "list for text": Fault(M, field("output", ["x"]), "string"),
}
FILE_FAULTS = {
    "byte order mark": Fault(G, lambda data: b"\xef\xbb\xbf" + data, "byte order mark", True, 1),
    "not UTF-8": Fault(T, text(b"question 2", b"question \xff"), "UTF-8", True, 3),
    "UTF-16": Fault(G, lambda data: data.decode().encode("utf-16"), "UTF-8", True, 1),
    "empty file": Fault(T, lambda _: b"", "at least one row", True, 1),
    "empty list": Fault(G, lambda _: b"[]", "at least one row", True, 1),
    "cut off": Fault(G, lambda data: data[:-40], "JSON", True, 13),
    "not a list": Fault(G, lambda _: b'{"a": 1}', "of a JSON list", True, 1),
    "text after the list": Fault(G, lambda data: data + b"\n[]", "nothing after", True, 15),
    "nested 100 000 deep": Fault(G, lambda _: b"[\n" + b"[" * 100_000, "JSON", True, 2),
}


def build(folder: Path, fault: Fault, allowed: int = 0) -> Task:
    return build_task(TASKS[fault.file], folder, style="text", max_bad_records=allowed)


def spoil(folder: Path, fault: Fault) -> int:
    """Spoil a file; returns the line that has to be named."""
    path = folder / fault.file
    if fault.whole:
        path.write_bytes(fault.spoil(path.read_bytes()))
        return fault.line
    lines = path.read_bytes().split(b"\n")
    place = 5 if fault.file.endswith(".jsonl") else 6
    lines[place] = fault.spoil(lines[place])
    path.write_bytes(b"\n".join(lines))
    return place + 1


def wording(error: DataError, path: Path, line: int, reason: str) -> bool:
    message = str(error)
    start = f"{path}:{line}: "
    return message.startswith(start) and reason in message and "\n" not in message and len(message) < 700


def test_good_files_are_read_whole(folder: Path) -> None:
    for file, task in TASKS.items():
        built = build_task(task, folder, style="text")
        assert sum(len(items) for items in built.tests.values()) == 12 * len(built.tests), file
        assert built.notes["malformed rows"] == 0


@pytest.mark.parametrize("name", [*ROW_FAULTS, *FILE_FAULTS])
def test_a_bad_dataset_is_named_by_file_and_line(name: str, folder: Path) -> None:
    fault = {**ROW_FAULTS, **FILE_FAULTS}[name]
    line = spoil(folder, fault)
    with pytest.raises(DataError) as caught:
        build(folder, fault)
    assert wording(caught.value, folder / fault.file, line, fault.wording), str(caught.value)


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_a_bad_row_may_be_counted_and_left_out(name: str, folder: Path) -> None:
    fault = ROW_FAULTS[name]
    spoil(folder, fault)
    task = build(folder, fault, allowed=1)
    assert task.notes["malformed rows"] == 1
    kept = [*task.train, *task.validation, *(item for items in task.tests.values() for item in items)]
    files = {M: 5, A: 3}.get(fault.file, 2)
    assert len(kept) == 12 * files - 1


def test_every_bad_dataset(folder: Path, tally) -> None:
    """All of them once more, one after the other in one folder, counted."""
    passed, faults = 0, {**ROW_FAULTS, **FILE_FAULTS}
    for fault in faults.values():
        path = folder / fault.file
        good = path.read_bytes()
        line = spoil(folder, fault)
        try:
            build(folder, fault)
        except DataError as error:
            passed += wording(error, path, line, fault.wording)
        path.write_bytes(good)
    tally("R12", "bad datasets reported by path:line", passed, len(faults))


def test_counted_skips(folder: Path, tally) -> None:
    """The rows that fail alone are left out and counted where that is allowed; one more is not."""
    passed = 0
    for fault in ROW_FAULTS.values():
        path = folder / fault.file
        good = path.read_bytes()
        spoil(folder, fault)
        passed += build(folder, fault, allowed=1).notes["malformed rows"] == 1
        path.write_bytes(good)
    tally("R12", "bad rows counted under max_bad_records", passed, len(ROW_FAULTS))


def test_the_command_line_names_the_line(folder: Path, capsys, tmp_path_factory) -> None:
    from manifold_lora.experiments.cli import main

    spoil(folder, ROW_FAULTS["bad JSON line"])
    output = tmp_path_factory.mktemp("out") / "run"
    model = tmp_path_factory.mktemp("no model")
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"")
    command = ["train", "--task", "gsm8k", "--data", str(folder), "--model", str(model)]
    assert main([*command, "--output", str(output)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"manifold-lora train: {folder / T}:6: JSON")
    assert not output.exists()
