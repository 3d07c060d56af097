"""Leaks: a question is found whatever its case, spaces and punctuation, and counted on both sides."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.data.files import read_rows
from manifold_lora.experiments.data.leaks import LeakError, apply_policy, find_leaks, normalise
from manifold_lora.experiments.data.rows import AnyQuestion, MathRow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
WORDS = st.text("abc ,.?!7", min_size=1, max_size=8)


def questions(path: Path) -> list[str]:
    return [row.instruction for row in read_rows(path, AnyQuestion).rows]


def disguised(question: str, random: Random) -> str:
    """The same question in another case, with other spaces and other punctuation."""
    marks = [mark.swapcase() if random.random() < 0.3 else mark for mark in question]
    marks = [mark for mark in marks if mark.isalnum() or mark == " "]
    return random.choice([" ", "", "\t"]).join("".join(marks).split(" ")) + random.choice(["?", " .", "!"])


@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=12))
def test_leaks_are_what_comparing_every_pair_finds(train: list[str], test: list[str]) -> None:
    leaks = find_leaks(train, {"t": test})
    pairs = [(a, b) for a, x in enumerate(train) for b, y in enumerate(test) if normalise(x) == normalise(y)]
    assert set(leaks.trained["t"]) == {a for a, _ in pairs}
    assert set(leaks.tested["t"]) == {b for _, b in pairs}
    assert leaks.found == bool(pairs)
    assert leaks.rows == set(leaks.trained["t"])


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.randoms(use_true_random=False))
def test_a_disguise_changes_nothing(question: str, random: Random) -> None:
    plain = "".join(mark for mark in question if mark.lower().upper() == mark.upper())  # no ß or ﬁ
    once = plain.swapcase() if plain.swapcase().casefold() == plain.casefold() else plain
    assert normalise(disguised(once.lower(), random).lower()) == normalise(once.lower())


def test_choices_do_not_count() -> None:
    assert normalise("How many? Answer Choices: (A) 1 (B) 2") == normalise("how many?? Answer Choices: (A) 2")


def test_a_policy_refuses_drops_or_allows() -> None:
    leaks = find_leaks(["one", "Two!", "three"], {"a": ["two"], "b": ["TWO", "four"], "c": ["five"]})
    with pytest.raises(LeakError, match=r"a: 1 test rows in 1 training rows, b: 1 test rows.*task\.leaks"):
        apply_policy(leaks, "refuse", "x")
    assert apply_policy(leaks, "drop", "x") == {1}
    assert apply_policy(leaks, "allow", "x") == frozenset()
    assert leaks.also_in(1) == ["a", "b"]
    assert apply_policy(find_leaks(["one"], {"a": ["two"]}), "refuse", "x") == frozenset()


@needs_data
def test_the_181_repeated_questions_of_mawps_are_found(tmp_path: Path, capsys) -> None:
    """28 in one training file, 176 in another, 181 in either: the repetition of the original split."""
    random, asked = Random(0), questions(DATA / "tests" / "mawps.json")
    rows_of: dict[str, list[str]] = {}
    for question in asked:
        rows_of.setdefault(normalise(question), []).append(question)
    once = [rows[0] for rows in rows_of.values() if len(rows) == 1]
    repeated = random.sample(once, 181)
    own = {"mawps": repeated[:28], "single": repeated[5:]}
    assert (len(own["mawps"]), len(own["single"])) == (28, 176)
    paths = []
    for name, found in own.items():
        new = [f"{name} asks for number {place}" for place in range(300)]
        rows = [{"instruction": disguised(question, random)} for question in found + new]
        random.shuffle(rows)
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    train = [questions(path) for path in paths]
    counts = [
        len(find_leaks(each, {"mawps": asked}).tested["mawps"]) for each in [*train, train[0] + train[1]]
    ]
    assert counts == [28, 176, 181]
    arguments = ["data", "leaks", "--train", *map(str, paths), "--tests", str(DATA / "tests" / "mawps.json")]
    assert main(arguments) == 1
    message = capsys.readouterr().out
    assert "181 of 238 rows" in message
    assert "28 of them" in message
    assert "176 of them" in message


@needs_data
def test_also_in_of_the_rebuilt_training_set_row_by_row() -> None:
    rows = read_rows(DATA / "train" / "math10k_rebuild.jsonl", MathRow).rows
    tests = {name: questions(DATA / "tests" / f"{name}.json") for name in ("AddSub", "MultiArith")}
    leaks = find_leaks([row.instruction for row in rows], tests)
    assert [leaks.also_in(place) for place in range(len(rows))] == [row.also_in for row in rows]
    others = {
        name: questions(DATA / "tests" / f"{name}.json") for name in ("gsm8k", "AQuA", "mawps", "SVAMP")
    }
    assert not find_leaks([row.instruction for row in rows], others).found


def test_the_verb_tells_there_is_no_leak_by_its_exit_code(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.json").write_text('[{"question": "one"}]')
    (tmp_path / "b.jsonl").write_text('{"instruction": "two", "anything": 3}\n')
    command = ["data", "leaks", "--train", str(tmp_path / "a.json"), "--tests", str(tmp_path / "b.jsonl")]
    assert main(command) == 0
    assert "0 of 1 rows" in capsys.readouterr().out
    assert main([*command[:-1], str(tmp_path / "c.jsonl")]) == 2
    assert main(["data", "leeks"]) == 2
    assert "did you mean 'leaks'" in capsys.readouterr().err
