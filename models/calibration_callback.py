"""Calibration inside transformers' Trainer, on rows of its own training set."""

from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.models.calibration import calibrate
from manifold_lora.models.module_geometry import ModuleGeometry


class CalibrationCallback(TrainerCallback):
    """``calibrate`` before the first step: ``Trainer(..., callbacks=[CalibrationCallback()])``.

    The rows are taken at equal distances from the training set (the first ones of a stream) and pass the
    trainer's own collator; the random state and the order of the training data are left as they were. A run
    that goes on from a checkpoint keeps the s and kappa saved there.

    Args:
        rows: how many training rows to look at.
        dose: as of ``calibrate``; by default kappa stays as it is.

    Attributes:
        modules: what ``calibrate`` returned; empty before the training begins.

    Raises ManifoldLoraError as ``calibrate`` does.
    """

    def __init__(self, rows: int = 8, dose: float | None = None) -> None:
        self.rows, self.dose = rows, dose
        self.modules: dict[str, ModuleGeometry] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call."""
        if state.global_step:
            return
        loader = kwargs["train_dataloader"]
        with torch.random.fork_rng():  # a collator may draw
            batch = loader.collate_fn(_rows(loader.dataset, self.rows))
            self.modules = calibrate(kwargs["model"], [batch], dose=self.dose)


def _rows(data: Any, count: int) -> list[Any]:
    if isinstance(data, IterableDataset):
        return list(islice(data, count))
    taken = min(count, len(data))
    return [data[place * len(data) // taken] for place in range(taken)]
