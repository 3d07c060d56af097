"""Hypernyms and lowest common ancestors of WordNet's nouns, asked in words, in subtrees held out whole."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from random import Random

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.data.wordnet import FILES, find_wordnet, read_common_nouns
from manifold_lora.experiments.tasks.base import Example, Splits
from manifold_lora.experiments.tasks.templates import PLAIN, Template
from manifold_lora.experiments.tasks.text_task import TextTask
from manifold_lora.models.shipped import file_sha256

FLAT = "wordnet_flat"
# A subtree has at most so many nouns: fewer would leave no chain, more would leave few subtrees to hold out.
_LARGEST = 80
# Questions of either kind with the same answer.
_OF_EACH = 2
_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_SAID = re.compile(r"(?:(?:an?|the)\s+)?([^\n.,;:()\"]*)")


class WordNet(TextTask):
    """``Which category does "salmon" belong to?``, ``Which is the narrowest category that holds both ...?``

    WordNet's common nouns are cut into subtrees of at most 80, and each subtree is in one split: no noun that
    a test asks about or is answered by occurs in training, so that what a model gains is what it already knew
    of the hierarchy, and how to say it. Every category is the answer of at most two questions of each kind,
    which are one cluster.

    Args:
        name: ``wordnet``, or ``wordnet_flat``: the same questions, whose answers are permuted at random among
            those of one split and kind, so that no tree holds them. Nothing in it can be learned for the
            test beyond how answers look.
        data: folder of WordNet's data.noun and index.noun; None looks where packages install them.
        seed: of the subtrees held out, the questions drawn and the permutation.
        template: how a question becomes a prompt.

    Raises ManifoldLoraError where the files are missing or no WordNet files, or hold too few nouns.
    """

    def __init__(
        self,
        name: str = "wordnet",
        data: Path | None = None,
        seed: int = 0,
        limit: int | None = None,
        template: Template = PLAIN,
    ) -> None:
        self.name, self._seed, self._limit, self._template = name, seed, limit, template
        self._folder = find_wordnet(data)
        self._tree = read_common_nouns(self._folder)

    @property
    def splits(self) -> Splits:
        """The three splits, in an order that the seed gives."""
        return self._splits.first(self._limit)

    @cached_property
    def _splits(self) -> Splits:
        random = Random(f"wordnet-{self._seed}")
        subtrees = random.sample(self._subtrees, len(self._subtrees))
        found: dict[str, list[Example]] = {}
        start = 0.0
        for split, share in _SHARES.items():
            ends = round(start * len(subtrees)), round((start + share) * len(subtrees))
            items = [item for top in subtrees[slice(*ends)] for item in self._questions(top, random)]
            random.shuffle(items)
            found[split] = _permuted(items, f"{split}-{self._seed}") if self.name == FLAT else items
            start += share
        if not all(found.values()):
            got = f"{len(subtrees)} subtrees with a question"
            raise ManifoldLoraError("nouns of WordNet", got, "enough for training, validation and test")
        return Splits(found["train"], found["validation"], {self.name: found["test"]})

    @cached_property
    def _subtrees(self) -> list[str]:
        """The tops of the largest subtrees of at most ``_LARGEST`` nouns in which something can be asked."""
        sizes: dict[str, int] = {}
        for word in reversed([word for top in self._roots for word in self._tree.subtree(top)]):
            sizes[word] = 1 + sum(sizes[child] for child in self._tree.children.get(word, ()))
        tops, waiting = [], list(self._roots)
        while waiting:
            word = waiting.pop()
            if sizes[word] > _LARGEST:
                waiting += self._tree.children[word]
            elif sizes[word] > 1:
                tops.append(word)
        return tops

    @property
    def _roots(self) -> list[str]:
        return [word for word, above in self._tree.parents.items() if above is None]

    def _questions(self, top: str, random: Random) -> Iterator[Example]:
        """Up to two questions of each kind for every noun of a subtree that has nouns below it."""
        for category in self._tree.subtree(top):
            below = self._tree.children.get(category, [])
            for word in random.sample(below, min(_OF_EACH, len(below))):
                yield self._example("hypernym", (word,), category)
            for pair in _pairs(self._tree, below, random) if len(below) > 1 else ():
                yield self._example("common ancestor", pair, category)

    def _example(self, kind: str, words: tuple[str, ...], answer: str) -> Example:
        asked = (
            f'Which category does "{words[0]}" belong to?'
            if kind == "hypernym"
            else f'Which is the narrowest category that holds both "{words[0]}" and "{words[1]}"?'
        )
        identity = "-".join(("wordnet", *words)).replace(" ", "_")
        prompt, target = self._template.render(asked), self._template.target(answer)
        return Example(identity, prompt, target, answer, kind, cluster=answer)

    def score(self, example: Example, output: str) -> Scored:
        """The first words, without an article, must be the answer, whatever their case."""
        match = _SAID.match(output.strip().lower())
        said = " ".join(match[1].split()) if match else ""
        return Scored(said, said == example.answer)

    @property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of both files."""
        return {name: file_sha256(self._folder / name) for name in FILES}

    @property
    def notes(self) -> dict[str, int]:
        """How many subtrees there are, and how many nouns are in none: too high up, or alone."""
        inside = sum(len(self._tree.subtree(top)) for top in self._subtrees)
        return {"subtrees": len(self._subtrees), "nouns in no subtree": len(self._tree.parents) - inside}


def _pairs(tree: Hierarchy, below: Sequence[str], random: Random) -> list[tuple[str, str]]:
    """Pairs of nouns below two different children of one category, none of them twice."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for _ in range(_OF_EACH):
        first, second = (random.choice(tree.subtree(child)) for child in random.sample(below, 2))
        found.setdefault(frozenset((first, second)), (first, second))
    return list(found.values())


def _permuted(items: list[Example], seed: str) -> list[Example]:
    """The questions with their answers permuted among those of their kind."""
    random = Random(f"wordnet-flat-{seed}")
    answers: dict[str, list[Example]] = {}
    for item in items:
        answers.setdefault(item.group, []).append(item)
    for given in answers.values():
        random.shuffle(given)
    taken = {kind: iter(given) for kind, given in answers.items()}
    others = [next(taken[item.group]) for item in items]
    return [
        replace(item, target=other.target, answer=other.answer)
        for item, other in zip(items, others, strict=True)
    ]
