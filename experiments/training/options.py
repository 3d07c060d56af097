"""What goes along with a training beside its settings: progress, checkpoints, measurements and logs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.early_stopping import EarlyStopping
from manifold_lora.experiments.training.logs import RunLogs

OnStep = Callable[[int, float], None]


class Resumable(Protocol):
    """Something that measures along the training and has to survive its interruption."""

    def state(self) -> dict[str, Any]:
        """What it has measured so far, as JSON data."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned."""


def _ignore(step: int, loss: float) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class FitOptions:
    """What one call of ``fit`` writes, measures and shows; by default nothing.

    Args:
        on_step: called with the step just done, from 1 on, and its loss, before the weights move.
        checkpoints: those of earlier, interrupted runs of the same settings: training goes on from the newest
            one that verifies, and ``checkpoint_every`` of the settings writes more there.
        probe: measures along the way; its state is part of every checkpoint.
        lora_plus_ratio: the learning rate of LoRA's B over that of A.
        logs: where a line is written for every step; by the first of several processes alone.
        stopping: ends training early, and gives the model the best weights it saw.
    """

    on_step: OnStep = _ignore
    checkpoints: Checkpoints | None = None
    probe: Resumable | None = None
    lora_plus_ratio: float = 1.0
    logs: RunLogs | None = None
    stopping: EarlyStopping | None = None
