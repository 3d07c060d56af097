"""Word problems: the number mapping, the split that leaks nothing, and the score by value."""

import json
import re
from pathlib import Path
from random import Random

import pytest

from manifold_lora.experiments.answers.equations import parse_equation, quantities
from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.data.leaks import normalise
from manifold_lora.experiments.tasks import Task, build_task
from manifold_lora.experiments.tasks.problems import Words, generated_problems
from manifold_lora.experiments.tasks.quantities import map_equation, map_quantities

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")


@pytest.mark.parametrize(
    ("question", "mapped", "numbers"),
    [
        ("Tom has 3 apples.", "tom has N0 apples .", (3.0,)),
        ("$ 2.00 and 25,000 dollars", "$ N0 and N1 dollars", (2.0, 25000.0)),
        ("a 35-dollar gift", "a N0 - dollar gift", (35.0,)),
        ("3 and 3 again", "N0 and N1 again", (3.0, 3.0)),
        ("between -32 and .5", "between N0 and N1", (-32.0, 0.5)),
        ("years 1,2,3", "years N0 , N1 , N2", (1.0, 2.0, 3.0)),
        ("none", "none", ()),
    ],
)
def test_numbers_become_names(question: str, mapped: str, numbers: tuple[float, ...]) -> None:
    assert map_quantities(question) == (mapped, numbers)


@pytest.mark.parametrize(
    ("equation", "numbers", "mapped"),
    [
        ("X=((27.0-6.0)/7.0)", (27.0, 6.0, 7.0), "( N0 - N1 ) / N2"),
        ("25000.0-(1500.0*8.0)=x", (25000.0, 1500.0, 8.0), "N0 - N1 * N2"),
        ("X=(2.0+2.0)", (2.0, 2.0), "N0 + N1"),
        ("X=(2.0+2.0)", (2.0,), "N0 + N0"),
        ("x=6000.0*(1+25*.01)", (6000.0, 25.0), "N0 * ( 1 + N1 * 0.01 )"),
        ("x=3.0+x", (3.0,), None),
        ("x=3.0*7.0", (3.0,), None),
        ("x=", (3.0,), None),
        ("x=3.0=3.0", (3.0,), None),
    ],
)
def test_equations_are_said_over_the_names(
    equation: str, numbers: tuple[float, ...], mapped: str | None
) -> None:
    assert map_equation(equation, numbers) == mapped


def test_generated_problems_are_well_formed() -> None:
    words = Words(["tom", "mary", "sam"], ["apples", "pens", "boxes", "cards"])
    for question, equation in generated_problems(2000, Random(0), words):
        message = re.findall(r"N\d", question)
        assert message == [f"N{index}" for index in range(len(message))]
        tree = parse_equation(equation)
        assert tree is not None
        used = quantities(tree)
        assert set(used) <= set(message)
        assert not set("#|{}") & set(question)
        # What the equation leaves out is what an aside tells, and nothing else.
        assert len(used) >= len(message) - 1
        for spare in set(message) - set(used):
            assert re.search(
                rf"is {spare} years|took {spare} min|has {spare} |are {spare} \S+ there", question
            )


def test_blanks_are_filled_with_what_the_questions_count() -> None:
    words = Words.of(["anna has N0 kites . how many kites are there ?", "bob bought N0 tins ."])
    assert list(words.persons) == ["anna", "bob"]
    assert list(words.things) == ["kites", "tins"]


def folder(root: Path, **changed: list[dict[str, str]]) -> Path:
    """A folder of the schema with a few rows; ``changed`` replaces files by their stem."""

    def learned(number: int) -> dict[str, str]:
        question, equation = f"Case {number}: {number} and 2?", f"X=({number}.0+2.0)"
        return {
            "source": "s",
            "instruction": question,
            "output": f"The equation is X={number}+2. The answer is {number + 2}.",
            "answer": str(number + 2),
            "equation": equation,
        }

    def tested(name: str, number: int) -> dict[str, str]:
        return {"id": f"{name}-0", "instruction": f"Test {number} and 2?", "answer": str(number + 2)}

    files = {
        "mawps_train_equations": [learned(3), learned(4)],
        "mawps_single_train_equations": [learned(5)],
        "mawps_valid_equations": [learned(6)],
        "mawps": [tested("mawps", 20)],
        "AddSub": [tested("AddSub", 21)],
        "SVAMP": [tested("SVAMP", 22)],
    } | changed
    for stem, rows in files.items():
        lined = "equations" in stem
        path = root / ("train" if lined else "tests") / f"{stem}.{'jsonl' if lined else 'json'}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)) if lined else json.dumps(rows), encoding="utf-8")
    return root


def test_a_folder_of_the_schema_is_a_task(tmp_path: Path) -> None:
    task = build_task("word_problems", folder(tmp_path))
    assert {example.target for example in task.train} == {"N0 + N2"}
    assert len(task.train) == 3
    assert len(task.validation) == 1
    assert {name: len(items) for name, items in task.tests.items()} == {"mawps": 1, "addsub": 1, "svamp": 1}
    assert len(task.data_hashes) == 6


def test_rows_that_are_tested_are_not_learned(tmp_path: Path) -> None:
    asked = {"id": "m-0", "instruction": "case 3 : 3 AND 2", "answer": "5"}
    also = {"id": "s-0", "instruction": "Case 6: 6 and 2 ?", "answer": "8"}
    with pytest.raises(DataError, match="outside the tests"):
        _ = build_task("word_problems", folder(tmp_path, mawps=[asked], SVAMP=[also])).train
    task = build_task("word_problems", folder(tmp_path, mawps=[asked]))
    assert len(task.train) == 2
    assert task.notes["train rows in a test"] == 1


def test_a_malformed_row_stops_or_is_counted(tmp_path: Path) -> None:
    bad = {"id": "AddSub-1", "instruction": "x", "answer": "many"}
    good = {"id": "AddSub-0", "instruction": "Test 1 and 2?", "answer": "3"}
    data = folder(tmp_path, AddSub=[good, bad])
    with pytest.raises(DataError, match=r"AddSub\.json:1: answer"):
        build_task("word_problems", data)
    assert build_task("word_problems", data, max_bad_records=1).notes["malformed rows"] == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    data = folder(tmp_path)
    (data / "tests" / "SVAMP.json").unlink()
    with pytest.raises(DataError, match=r"SVAMP\.json"):
        build_task("word_problems", data)


@pytest.fixture(scope="module")
def real() -> Task:
    return build_task("word_problems", DATA)


@needs_data
def test_nothing_tested_is_learned(real: Task) -> None:
    raw = [
        row["instruction"]
        for name in ("mawps", "AddSub", "SVAMP")
        for row in json.loads((DATA / "tests" / f"{name}.json").read_text(encoding="utf-8"))
    ]
    tested = {normalise(map_quantities(question)[0]) for question in raw}
    plain = build_task("word_problems", DATA, style="text")
    asked = {normalise(question) for question in raw}
    for example in [*plain.train, *plain.validation]:
        assert normalise(example.prompt.removeprefix("Question: ").removesuffix("\nAnswer:")) not in asked
    chosen = {example.prompt for example in plain.validation}
    assert not chosen & {example.prompt for example in plain.train}
    # Near-duplicates that differ in their numbers alone remain, as the data's README says of the field.
    assert any(normalise(example.prompt.removesuffix("=>")) in tested for example in real.train)


@needs_data
def test_gold_equations_are_worth_their_answers(real: Task) -> None:
    assert len(real.train) > 1000
    assert len(real.validation) > 100
    for example in [*real.train, *real.validation]:
        assert real.score(example, example.target).correct
        assert not real.score(example, f"{example.target} + 1").correct


@needs_data
def test_test_sets_are_whole_and_scored_within_a_thousandth(real: Task) -> None:
    assert {name: len(items) for name, items in real.tests.items()} == {
        "mawps": 238,
        "addsub": 395,
        "svamp": 1000,
    }
    example = real.tests["mawps"][0]
    assert real.score(example, "N0 - N1").correct
    assert real.score(example, "N0 - N1 + 0.0009").correct
    assert not real.score(example, "N0 - N1 + 0.0011").correct
    assert not real.score(example, "N0 - N1 =").correct


@needs_data
def test_the_base_reads_no_question_of_a_test(real: Task) -> None:
    asked = {
        normalise(example.prompt.removesuffix(" =>")) for items in real.tests.values() for example in items
    }
    learned = {normalise(example.prompt.removesuffix(" =>")) for example in real.train}
    for document in real.pretraining_texts():
        question = normalise(document.text.split(" =>")[0])
        # Masked numbers make a few training questions equal to test questions; none comes from a test file.
        assert question not in asked or question in learned


@needs_data
def test_text_style_reads_the_last_number() -> None:
    task = build_task("word_problems", DATA, style="text")
    for example in task.train:
        assert task.score(example, example.target).extracted
    assert sum(task.score(example, example.target).correct for example in task.train) > 0.95 * len(task.train)
    first = task.tests["addsub"][0]
    assert first.prompt.startswith("Question: There are 7 crayons")
    assert task.score(first, "7 - 3 = 4. The answer is 4.").correct
