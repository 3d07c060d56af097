"""Lowest common ancestors in a tree whose names say nothing: the geometry has to."""

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations, islice, zip_longest
from random import Random

from manifold_lora.experiments.answers.read import Scored
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Splits, Task
from manifold_lora.experiments.tasks.names import nonsense_names

# Children of a node at each depth. With four at the root, a uniform answer depth of 1..3 makes the most
# common answer 1/12 of all items.
_BRANCHING = (4, 3, 3, 3)
_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


class Taxonomy(Task):
    """``lca a b => c``: the base knows every upward chain, the adapters learn where two of them meet.

    Pairs are split before they are ordered, so a test pair is new in both orders.
    """

    name = "taxonomy"

    def __init__(self, seed: int = 0, style: str = "equation", limit: int | None = None) -> None:
        self._seed, self._limit = seed, limit
        random = Random(f"taxonomy-{seed}")
        self._parents = _grow(random)
        self._names = nonsense_names(len(self._parents), random)

    def _chain(self, node: int) -> list[int]:
        """The node and its ancestors, the root last."""
        chain = [node]
        while self._parents[chain[-1]] >= 0:
            chain.append(self._parents[chain[-1]])
        return chain

    @cached_property
    def splits(self) -> Splits:
        """As many pairs of each answer depth as the rarest depth has, split pair by pair, answers in turn."""
        by_depth = self._pairs_by_depth()
        per_depth = min(len(pairs) for pairs in by_depth.values())
        random = Random(f"taxonomy-splits-{self._seed}")
        splits: dict[str, list[Example]] = {split: [] for split in _SHARES}
        for depth, pairs in by_depth.items():
            chosen = iter(_answers_in_turn(pairs, random)[:per_depth])
            for split, share in _SHARES.items():
                taken = islice(chosen, int(per_depth * share))
                splits[split] += [item for pair in taken for item in self._both_orders(pair, depth)]
        for items in splits.values():
            random.shuffle(items)
        return Splits(splits["train"], splits["validation"], {self.name: splits["test"]}).first(self._limit)

    def _pairs_by_depth(self) -> dict[int, list[tuple[int, int, int]]]:
        """Depth of the answer, below the root and above the leaves -> (first, second, answer)."""
        chains = [self._chain(node) for node in range(len(self._parents))]
        found: dict[int, list[tuple[int, int, int]]] = {depth: [] for depth in range(1, len(_BRANCHING))}
        for first, second in combinations(range(len(chains)), 2):
            meet = next(node for node in chains[first] if node in chains[second])
            if (depth := len(chains[meet]) - 1) in found:
                found[depth].append((first, second, meet))
        return found

    def _both_orders(self, pair: tuple[int, int, int], depth: int) -> list[Example]:
        first, second, meet = (self._names[node] for node in pair)
        return [
            Example(
                f"taxonomy-{a}-{b}",
                f"lca {a} {b} =>",
                meet,
                meet,
                f"depth {depth}",
                cluster=f"{first} and {second}",
            )
            for a, b in ((first, second), (second, first))
        ]

    def score(self, example: Example, output: str) -> Scored:
        """The first word must be the answer."""
        word = next(iter(output.split()), "")
        return Scored(word, word == example.answer)

    @property
    def base_spec(self) -> BaseSpec:
        """A Llama of three layers."""
        return BaseSpec(
            hidden_size=64,
            layers=3,
            heads=4,
            intermediate_size=128,
            steps=300,
            batch_size=64,
            learning_rate=3e-3,
            max_positions=16,
        )

    def pretraining_texts(self) -> Iterator[Document]:
        """Every upward chain, and the one word that only the task uses."""
        for node in range(len(self._parents)):
            name, *above = (self._names[step] for step in self._chain(node))
            if above:
                yield Document(f"up {name} => {' '.join(above)}")
        yield Document("lca")


def _answers_in_turn(pairs: list[tuple[int, int, int]], random: Random) -> list[tuple[int, int, int]]:
    """The pairs in an order of which any stretch holds every answer about as often."""
    by_answer: dict[int, list[tuple[int, int, int]]] = {}
    for pair in random.sample(pairs, len(pairs)):
        by_answer.setdefault(pair[2], []).append(pair)
    return [pair for turn in zip_longest(*by_answer.values()) for pair in turn if pair is not None]


def _grow(random: Random) -> list[int]:
    """Parent of every node of a balanced tree, -1 for the root; node numbers carry no order."""
    parents, level = [-1], [0]
    for children in _BRANCHING:
        level = [node for parent in level for node in _add(parents, parent, children)]
    order = random.sample(range(len(parents)), len(parents))
    place = {node: position for position, node in enumerate(order)}
    return [place[parents[node]] if parents[node] >= 0 else -1 for node in order]


def _add(parents: list[int], parent: int, children: int) -> range:
    first = len(parents)
    parents += [parent] * children
    return range(first, first + children)
