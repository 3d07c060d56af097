"""What an arm costs, and how much of the baseline's that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lora.experiments.reports.row import ArmRow


@dataclass(frozen=True)
class Cost:
    """A column of the cost table: heading, key in ``ArmRow.costs``, factor to its unit, and its form.

    ``has_ratio`` says whether the figure over the baseline's means something.
    """

    heading: str
    key: str
    factor: float = 1.0
    form: str = ",.0f"
    has_ratio: bool = True

    def of(self, row: ArmRow) -> float:
        """The figure in the heading's unit."""
        return self.factor * row.costs[self.key]

    def text(self, row: ArmRow) -> str:
        """The figure as it is printed; nothing where it was not measured."""
        return "" if math.isnan(self.of(row)) else f"{self.of(row):{self.form}}"


TABLE = (
    Cost("train s", "train_seconds", form=",.1f"),
    Cost("tokens/s", "tokens_per_second"),
    Cost("ms/item", "seconds_per_item", 1000.0, ",.1f"),
    Cost("peak MB", "peak_memory_mb"),
    Cost("params", "trainable_parameters"),
    Cost("KB", "adapter_bytes", 1 / 1024),
    Cost("nats lost", "forgetting", form="+.3f", has_ratio=False),
)


def ratio(row: ArmRow, rows: Sequence[ArmRow], key: str) -> float:
    """A cost over that of the baseline the row is compared with; 1 for a baseline, NaN over nothing."""
    base = next((other for other in rows if other.label == row.against), row)
    return row.costs[key] / base.costs[key] if base.costs[key] else float("nan")
