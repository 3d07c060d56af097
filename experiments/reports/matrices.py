"""Items of result files as matrices of seeds x items, those that come in clusters taken together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifold_lora.experiments.reports.row import Record
from manifold_lora.experiments.reports.statistics import Matrix
from manifold_lora.experiments.results.accuracy import right_by_set

Items = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class _Answered:
    """One cell's answers to one set, in the order of the items' ids: clusters' places, right, nats."""

    places: np.ndarray
    right: Matrix
    nll: Matrix | None

    @classmethod
    def of(cls, items: list[dict[str, Any]]) -> "_Answered":
        items = sorted(items, key=lambda item: str(item["id"]))
        # An id is no cluster of the same name.
        names = [(bool(item.get("cluster")), item.get("cluster") or item["id"]) for item in items]
        place = {name: at for at, name in enumerate(dict.fromkeys(sorted(names)))}
        nll = [item.get("nll") for item in items]
        return cls(
            np.array([place[name] for name in names]),
            np.array([float(item["correct"]) for item in items]),
            None if None in nll else np.array(nll, dtype=float),
        )

    def by_cluster(self, values: Matrix) -> Matrix:
        """Each cluster's sum over the mean size of clusters: their mean is the items', whatever the sizes."""
        sums = np.bincount(self.places, values)
        shares: Matrix = np.multiply(sums, len(sums) / len(values), dtype=np.float64)
        return shares


class Answers:
    """What cells answered, each cell's file read once.

    Items that share a ``cluster`` (one question in two orders) answer together: an interval that took them
    for independent would be too narrow. The matrices hold their sums over the mean size of clusters, so that
    a mean is the share of all items, the number that result files state, whatever the sizes are.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._read: dict[str, dict[str, _Answered]] = {}

    def matrix(self, records: Mapping[int, Record], test: str) -> Matrix:
        """The (seeds, clusters) right answers over the mean size; 0/1 where nothing is clustered."""
        cells = [self._of(record["cell"])[test] for record in records.values()]
        return np.array([cell.by_cluster(cell.right) for cell in cells])

    def right(self, records: Mapping[int, Record], test: str) -> Matrix:
        """The (seeds, items) 0/1 matrix of a test set, clusters taken apart."""
        return np.array([self._of(record["cell"])[test].right for record in records.values()])

    def nll(self, records: Mapping[int, Record], test: str) -> Matrix | None:
        """The (seeds, clusters) nats of the gold answers; None where one is not known."""
        cells = [self._of(record["cell"])[test] for record in records.values()]
        known = [cell.by_cluster(cell.nll) for cell in cells if cell.nll is not None]
        return np.array(known) if len(known) == len(cells) else None

    def _of(self, cell: str) -> dict[str, _Answered]:
        if cell not in self._read:
            items = self._items(cell)
            self._read[cell] = {
                name: _Answered.of([item for item in items if item["set"] == name])
                for name in right_by_set(items)
            }
        return self._read[cell]
