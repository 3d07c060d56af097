"""What holds for every generated task, and what each of them promises."""

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.answers.equations import evaluate_equation
from manifold_lora.experiments.tasks import TASKS, Example, Task, build_task

GENERATED = ("taxonomy", "arithmetic")


@pytest.fixture(scope="module", params=GENERATED)
def task(request: pytest.FixtureRequest) -> Task:
    return build_task(request.param)


def everything(task: Task) -> list[Example]:
    return [*task.train, *task.validation, *(item for items in task.tests.values() for item in items)]


def test_splits_share_no_prompt_and_no_id(task: Task) -> None:
    examples = everything(task)
    assert len({example.id for example in examples}) == len(examples)
    assert len({example.prompt for example in examples}) == len(examples)
    assert task.train
    assert task.validation
    assert list(task.tests) == [task.name]


def test_the_target_scores_and_other_text_does_not(task: Task) -> None:
    for example in everything(task)[:300]:
        assert task.score(example, example.target).correct
        assert not task.score(example, "").correct
        assert not task.score(example, "\0 nothing 9999999").correct


def test_a_task_is_a_function_of_its_seed(task: Task) -> None:
    again, other = build_task(task.name), build_task(task.name, seed=1)
    assert everything(again) == everything(task)
    assert list(again.pretraining_texts()) == list(task.pretraining_texts())
    assert everything(other) != everything(task)


def test_limit_keeps_the_first_and_leaves_the_base_alone(task: Task) -> None:
    short = build_task(task.name, limit=7)
    assert short.train == task.train[:7]
    assert short.validation == task.validation[:7]
    assert short.tests[task.name] == task.tests[task.name][:7]
    assert list(short.pretraining_texts()) == list(task.pretraining_texts())


def test_no_answer_is_common_enough_to_guess(task: Task) -> None:
    for examples in (task.train, task.validation, task.tests[task.name]):
        _, most = Counter(example.answer for example in examples).most_common(1)[0]
        assert most / len(examples) < 0.10


def test_no_training_prompt_is_in_the_pretraining_texts(task: Task) -> None:
    seen = {document.text.split("=>")[0].strip() for document in task.pretraining_texts()}
    assert not seen & {example.prompt.removesuffix("=>").strip() for example in everything(task)}


def test_taxonomy_answers_are_the_lowest_common_ancestors() -> None:
    task = build_task("taxonomy")
    chains = {}
    for document in task.pretraining_texts():
        if "=>" in document.text:
            name, above = document.text.removeprefix("up ").split(" => ")
            chains[name] = [name, *above.split()]
    root = next(iter(chains.values()))[-1]
    chains[root] = [root]
    for example in everything(task):
        first, second = example.prompt.split()[1:3]
        meet = next(name for name in chains[first] if name in chains[second])
        assert example.answer == meet
        assert example.group == f"depth {len(chains[meet]) - 1}"


def test_taxonomy_depths_are_uniform_and_pairs_held_out_in_both_orders() -> None:
    task = build_task("taxonomy")
    for examples in (task.train, task.validation, task.tests["taxonomy"]):
        assert len(set(Counter(example.group for example in examples).values())) == 1

    def pairs(examples: list[Example]) -> set[frozenset[str]]:
        return {frozenset(example.prompt.split()[1:3]) for example in examples}

    train, validation, test = pairs(task.train), pairs(task.validation), pairs(task.tests["taxonomy"])
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_arithmetic_works_every_step_out() -> None:
    task = build_task("arithmetic")
    for example in everything(task)[:500]:
        first, second, last = example.target.split(" = ")
        assert evaluate_equation(first) == float(second.split()[0])
        assert evaluate_equation(second) == float(last)
        assert last == example.answer
        assert int(last) > 0
        message = re.findall(r"\d+", example.prompt)
        assert message == [*re.findall(r"\d+", first), second.split()[2]]


def test_arithmetic_base_starts_small_and_knows_every_number() -> None:
    task = build_task("arithmetic")
    known = set()
    for document in task.pretraining_texts():
        assert document.text.count("=") == 2  # the arrow and one result
        start, amount = map(int, re.findall(r"\d+", document.context))
        assert start <= 40
        assert amount <= 20
        known |= {int(number) for number in re.findall(r"\d+", document.text)}
    message = {int(number) for example in everything(task) for number in re.findall(r"\d+", example.target)}
    assert message <= known


def test_tasks_are_named() -> None:
    assert {*GENERATED, "word_problems"} <= {*TASKS}
    with pytest.raises(UnknownNameError, match="did you mean 'taxonomy'"):
        build_task("taxonmy")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "word_problems"}, "DATA="),
        ({"name": "taxonomy", "data": "x"}, "generates its items"),
        ({"name": "taxonomy", "style": "eqation"}, "did you mean 'equation'"),
        ({"name": "taxonomy", "limit": 0}, "from 1 up"),
        ({"name": "word_problems", "data": "/no/such/folder"}, "a folder with train/ and tests/"),
    ],
)
def test_a_bad_request_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ManifoldLoraError, match=re.escape(words)):
        build_task(**arguments)


def test_tasks_need_no_torch() -> None:
    code = (
        "import sys; from manifold_lora.experiments.tasks import build_task;"
        f"[build_task(name).splits for name in {GENERATED}];"
        "import manifold_lora.experiments.data.files, manifold_lora.experiments.tasks.word_problems;"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_distinct() -> None:
    names = [example.answer for example in build_task("taxonomy", seed=3).train]
    assert all(re.fullmatch("[a-z]{4}", name) for name in names)
    assert any(first != second for first, second in pairwise(names))
