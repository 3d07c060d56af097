"""Early stopping: the weights of the best look at validation data are kept, and training ends in time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EarlyStopping(TrainerCallback):
    """Looks at a score every few steps and at the last one; ends training after ``patience`` looks in a row
    without a better one.

    A score is better if it is lower; of equal ones the earlier stands. Looking draws no random numbers, so
    that the steps taken are those of a run that never looks.

    Args:
        score: of the model as it is; finite.
        every: steps from look to look.
        patience: looks in a row.
    """

    def __init__(self, score: Callable[[], float], every: int, patience: int) -> None:
        self.score, self.every, self.patience = score, every, patience
        self.looks: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look, keep the weights if they are the best so far, and end training if it is time."""
        step = state.global_step
        if step % self.every and step != state.max_steps:
            return
        self.looks.append((step, self.score()))
        if self.best_step == step:
            self.best = {name: weight.detach().clone() for name, weight in _trained(kwargs["model"])}
        control.should_training_stop |= self.is_over

    @property
    def best_step(self) -> int:
        """The step of the best look, 0 before any."""
        return min(self.looks, key=lambda look: look[1])[0] if self.looks else 0

    @property
    def is_over(self) -> bool:
        """Whether the last ``patience`` looks were no better than one before them."""
        return sum(step > self.best_step for step, _ in self.looks) >= self.patience

    def state(self) -> dict[str, Any]:
        """The looks so far, as JSON data for a checkpoint; the best weights go beside them."""
        return {"looks": [list(look) for look in self.looks]}

    def restore(self, state: Mapping[str, Any], best: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.looks = [(int(step), float(score)) for step, score in state.get("looks", [])]
        self.best = dict(best)

    def keep_best(self, model: nn.Module) -> None:
        """Give the model the weights of the best look."""
        with torch.no_grad():
            for name, weight in _trained(model):
                if name in self.best:
                    weight.copy_(self.best[name])

    def record(self) -> dict[str, Any]:
        """What a result says of it: every look, the step whose weights were kept, the step that ended it."""
        last = self.looks[-1][0] if self.looks else 0
        return {**self.state(), "kept_step": self.best_step, "stopped_at": last if self.is_over else None}


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
