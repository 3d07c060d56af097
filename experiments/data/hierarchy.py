"""Words in a rooted tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Hierarchy:
    """Words in a rooted tree: ``parents[word]`` is the word above, None for the root."""

    name: str
    parents: Mapping[str, str | None]

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Word -> the words right below it, in the order of ``parents``; words with none are left out."""
        below: dict[str, list[str]] = {}
        for word, above in self.parents.items():
            if above is not None:
                below.setdefault(above, []).append(word)
        return below

    def subtree(self, word: str) -> list[str]:
        """The word and all below it, every word behind the one above it."""
        found = [word]
        for each in found:
            found += self.children.get(each, ())
        return found

    def chain(self, word: str) -> list[str]:
        """The word and all above it, the root last."""
        chain: list[str] = [word]
        while (above := self.parents[chain[-1]]) is not None:
            chain.append(above)
        return chain

    def depth(self, word: str) -> int:
        """Steps to the root."""
        return len(self.chain(word)) - 1

    def path(self, a: str, b: str) -> int:
        """Steps from a to b through where their chains meet."""
        place = {node: step for step, node in enumerate(self.chain(a))}
        return next(place[node] + step for step, node in enumerate(self.chain(b)) if node in place)
