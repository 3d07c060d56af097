"""A contest: who runs against whom on what, checked before it is timed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

from manifold_lora.experiments.bench.cost import Cost
from manifold_lora.experiments.bench.rounds import Pace


@dataclass(frozen=True)
class Contest(ABC):
    """Contestants that do the same work.

    Args:
        where: the work's name: a shape, or a model and its batch.
        dtype: a name of ``DTYPES``.
    """

    where: str
    dtype: str

    @abstractmethod
    def check(self) -> dict[str, float]:
        """Compare all contestants with their oracles: name -> largest difference. Raises Differs."""

    @abstractmethod
    def costs(self, pace: Pace) -> Iterator[Cost]:
        """Every figure, as it is measured."""

    @abstractmethod
    def asked(self, what: str, contestant: str) -> float | None:
        """The largest figure that is asked of a contestant of ours; None where nothing is."""

    def measured(self, pace: Pace) -> Iterator[Cost]:
        """``costs`` with what is asked of each."""
        for cost in self.costs(pace):
            yield replace(cost, asked=self.asked(cost.what, cost.contestant))
