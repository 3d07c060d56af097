"""The tree behind the taxonomy task, as a hierarchy."""

from itertools import pairwise

from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.tasks.registry import build_task


def read_taxonomy(seed: int = 0) -> Hierarchy:
    """The taxonomy task's tree, read from its own documents ``up node => parent ... root``."""
    parents: dict[str, str | None] = {}
    for document in build_task("taxonomy", seed=seed).pretraining_texts():
        head, arrow, above = document.text.partition(" => ")
        if arrow:
            chain = [head.removeprefix("up "), *above.split()]
            parents.update(pairwise(chain))
            parents.setdefault(chain[-1], None)
    return Hierarchy("taxonomy task", parents)
