"""The learned geometry of a run, a few times while it trains."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.models.geometry_log import learned_geometry

Layers = Mapping[str, Mapping[str, float]]

# A large model has hundreds of layers: lines of all of them at every step would dwarf what else is written.
_TIMES = 10


class GeometryLines(TrainerCallback):
    """Tells kappa, s and gate of every layer at the start, at the end and at most ten times between.

    Args:
        write: called with the step, 0 before the first one, and the figures.
    """

    def __init__(self, write: Callable[[int, Layers], None]) -> None:
        self._write = write

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The start of a run that is not resumed."""
        if state.global_step == 0:
            self._tell(0, kwargs["model"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the weights have moved."""
        step = state.global_step
        if step == state.max_steps or step % max(1, -(-state.max_steps // _TIMES)) == 0:
            self._tell(step, kwargs["model"])

    def _tell(self, step: int, model: nn.Module) -> None:
        figures = learned_geometry(model)
        if figures:
            self._write(step, figures)
