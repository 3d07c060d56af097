import os
from pathlib import Path

import numpy as np
import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.data.wordnet import INSTALLED, read_nouns
from manifold_lora.experiments.token_geometry.hierarchy import check_hierarchy
from manifold_lora.experiments.token_geometry.taxonomy_tree import read_taxonomy

SMALL = Hierarchy(
    "small", {"thing": None, "animal": "thing", "fruit": "thing", "dog": "animal", "apple": "fruit"}
)

DATA = """\
  1 the licence, indented
00000001 03 n 01 entity 0 000 | that which is
00000002 03 n 02 animal 0 beast 1 001 @ 00000001 n 0000 | alive
00000003 03 n 01 dog 0 002 @ 00000002 n 0000 ~ 00000009 n 0000 | barks
00000004 03 n 01 fido 0 001 @i 00000003 n 0000 | a dog
00000005 03 n 01 hot_dog 0 001 @ 00000001 n 0000 | food
"""
INDEX = """\
  1 the licence
animal n 1 1 @ 1 0 00000002
beast n 1 1 @ 1 0 00000002
dog n 2 2 @ ~ 2 1 00000003 00000005
entity n 1 0 1 0 00000001
fido n 1 1 @i 1 0 00000004
hot_dog n 1 1 @ 1 0 00000005
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return tmp_path


def test_depths_and_paths_of_a_tree():
    assert [SMALL.depth(word) for word in ("thing", "animal", "dog")] == [0, 1, 2]
    assert (SMALL.path("dog", "apple"), SMALL.path("dog", "animal"), SMALL.path("dog", "dog")) == (4, 1, 0)


def test_wordnet_files_give_first_senses_and_shortest_chains(wordnet):
    nouns = read_nouns(wordnet)
    words = {word for word in nouns.parents if not word.startswith("#")}
    assert words == {"entity", "animal", "beast", "dog", "fido"}
    assert {word: nouns.depth(word) for word in words} == {
        "entity": 0,
        "animal": 1,
        "beast": 1,
        "dog": 2,
        "fido": 3,
    }


def test_wordnet_as_installed_has_the_known_depths():
    folder = Path(os.environ.get("MANIFOLD_LORA_WORDNET", INSTALLED))
    if not (folder / "data.noun").is_file():
        pytest.skip(f"no WordNet: {folder} has no data.noun (apt install wordnet-base)")
    nouns = read_nouns(folder)
    assert [nouns.depth(word) for word in ("entity", "object", "animal")] == [0, 2, 6]
    assert nouns.depth("dog") > nouns.depth("animal")


def test_missing_and_foreign_files_are_refused(tmp_path, wordnet):
    with pytest.raises(ManifoldLoraError, match="apt install wordnet-base"):
        read_nouns(tmp_path / "none")
    (wordnet / "data.noun").write_text("this is no synset\n")
    with pytest.raises(ManifoldLoraError, match="format of wndb"):
        read_nouns(wordnet)


def test_the_taxonomy_tasks_tree_is_whole():
    tree = read_taxonomy()
    depths = [tree.depth(word) for word in tree.parents]
    assert [depths.count(depth) for depth in range(5)] == [1, 4, 12, 36, 108]


def test_embeddings_laid_out_along_the_tree_are_recognised():
    tree = read_taxonomy()
    words = list(tree.parents)
    rng = np.random.default_rng(0)
    steps = {word: rng.normal(size=256) for word in words}
    vectors = np.stack([sum(steps[node] for node in tree.chain(word)) for word in words])
    found = check_hierarchy(tree, words, vectors)
    assert found.norm_depth.low > 0.5
    assert found.norm_by_depth[4][0] > found.norm_by_depth[1][0]
    for geometry in found.geometries.values():
        assert geometry.path_spearman.low > 0.6
        assert geometry.origin_pearson > 0.6


def test_embeddings_without_hierarchy_are_not():
    tree = read_taxonomy()
    words = list(tree.parents)
    found = check_hierarchy(tree, words, np.random.default_rng(0).normal(size=(len(words), 32)))
    assert found.norm_depth.low < 0 < found.norm_depth.high


@pytest.mark.parametrize("words", [["dog"], ["dog", "apple"], ["dog", "apple", "dog"]])
def test_too_few_words_or_one_depth_are_refused(words):
    with pytest.raises(ManifoldLoraError, match="different depths"):
        check_hierarchy(SMALL, words, np.random.default_rng(0).normal(size=(len(words), 4)))
