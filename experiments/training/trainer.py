"""transformers.Trainer that stops at the first value that is not finite and resumes to the last bit."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.training.checkpoints import Checkpoint
from manifold_lora.experiments.training.clock import now
from manifold_lora.experiments.training.divergence import check_finite, diverged
from manifold_lora.experiments.training.encoding import Encoded
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.sampler import LengthPools
from manifold_lora.experiments.training.snapshot import Snapshot, capture

GROUPED = "group_by_length"


class GuardedTrainer(Trainer):
    """A Trainer that looks before it steps, keeps every loss, and writes checkpoints of its own.

    Args:
        options: what is shown, written and measured along the way.
        arguments: those of Trainer; ``save_strategy`` says whether checkpoints are written.
    """

    def __init__(self, options: FitOptions, **arguments: Any) -> None:
        super().__init__(**arguments)
        if options.checkpoints is not None and self.args.save_strategy != "no" and self.args.world_size > 1:
            hint = (
                "one process writes what it alone trains; under torchrun use transformers.Trainer and its own"
            )
            raise ManifoldLoraError("train.checkpoint_every", self.args.save_steps, "0 here", hint)
        self.losses: list[float] = []
        self.tokens, self.seconds = 0, 0.0
        self._options = options
        self._examples: list[Encoded] = arguments["train_dataset"]
        self._trained = [
            parameter for parameter in arguments["model"].parameters() if parameter.requires_grad
        ]
        self._norm, self._loss = torch.zeros(()), 0.0
        self._resumed: Snapshot | None = None
        self._started = now(self.args.device)
        # It prints the totals of a run, which the report holds.
        self.remove_callback(PrinterCallback)

    def run(self, resume: Checkpoint | None = None) -> None:
        """Train to the last step, from the start or from a checkpoint; raises DivergedError."""
        model: Any = self.model
        self._started = now(self.args.device)
        if resume is not None:
            self._resumed = Snapshot(resume.files)
            self._restore_measured(self._resumed)
        if self._options.logs:
            self._options.logs.begin(len(self.losses))
        if resume is None or resume.step < self.args.max_steps:
            check_finite(model, len(self.losses) + 1)
            with _without_walks(model, self._trained):
                self.train(resume_from_checkpoint=str(resume.folder) if resume else None)
        elif self._resumed is not None:
            self._resumed.restore_weights(model)
        if self._options.stopping:
            self._options.stopping.keep_best(model)
        self.seconds = self._elapsed()
        check_finite(model, len(self.losses))

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """As Trainer, then looks at loss, gradients and weights before anything is updated, and clips.

        Where gradients are accumulated, a step is several calls: their losses add up to the step's, and all
        but the last one look at the loss alone.
        """
        self.tokens += int(inputs["attention_mask"].sum())
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._loss += loss.item()
        if not self.accelerator.sync_gradients:
            if not torch.isfinite(loss):
                raise diverged(model, self.state.global_step + 1, self._prepare_inputs(inputs), loss)
            return loss
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(loss + self._norm + torch.nn.utils.get_total_norm(self._trained)):
            raise diverged(model, self.state.global_step + 1, self._prepare_inputs(inputs), loss)
        torch.nn.utils.clip_grads_with_norm_(self._trained, self.args.max_grad_norm, self._norm)
        self.losses.append(self._loss)
        self._loss = 0.0
        self._tell(self.state.global_step + 1, self.losses[-1])
        return loss

    def _tell(self, step: int, loss: float) -> None:
        if self._options.logs:
            optimizer: Any = self.optimizer
            self._options.logs.write(step, loss, optimizer.param_groups[0]["lr"], self._elapsed())
        self._options.on_step(step, loss)

    def _elapsed(self) -> float:
        return self.seconds + now(self.args.device) - self._started

    def _measured(self) -> dict[str, Any]:
        carried = self._options.probe.state() if self._options.probe else {}
        stopping = self._options.stopping.state() if self._options.stopping else {}
        return {
            "losses": self.losses,
            "tokens": self.tokens,
            "seconds": self._elapsed(),
            "carried": carried,
            "stopping": stopping,
        }

    def _restore_measured(self, snapshot: Snapshot) -> None:
        measured = snapshot.carried
        self.losses, self.tokens = list(measured["losses"]), measured["tokens"]
        self.seconds = measured["seconds"]
        if self._options.probe:
            self._options.probe.restore(measured["carried"])
        if self._options.stopping:
            self._options.stopping.restore(measured.get("stopping", {}), snapshot.best)

    # The places of Trainer that read and write checkpoints; its own are pickles, written in place.

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._options.checkpoints is None:
            return
        check_finite(model, self.state.global_step)
        optimizer: Any = self.optimizer
        best = self._options.stopping.best if self._options.stopping else {}
        files = capture(model, optimizer, self.lr_scheduler, self._measured(), best)
        files[TRAINER_STATE_NAME] = json.dumps(asdict(self.state)).encode()
        self._options.checkpoints.save(self.state.global_step, files)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        adapted: Any = model or self.model
        if self._resumed is not None:
            self._resumed.restore_weights(adapted)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        optimizer: Any = self.optimizer
        if self._resumed is not None:
            self._resumed.restore_optimizer(optimizer, self.lr_scheduler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._resumed is not None:
            self._resumed.restore_random()

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Nothing: there is no loss scaling."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(item["input_ids"]) for item in train_dataset or self._examples]
        grouped = self.args.train_sampling_strategy == GROUPED
        # A step's rows are those of one large batch, whatever number of passes it is cut into.
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthPools(
            lengths, size, self.args.seed, grouped=grouped, whole=self.args.dataloader_drop_last
        )

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        # Done in training_step; the inherited one walks over all modules twice more.
        return self._norm

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks over all parameters at every step."""
        return 0


@contextmanager
def _without_walks(model: Any, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """Spare the steps the walks over all modules that Trainer's ``train()`` and ``zero_grad()`` are."""
    walk = model.train

    def train(mode: bool = True) -> nn.Module:
        return model if model.training == mode else walk(mode)

    def zero_grad(set_to_none: bool = True) -> None:
        for parameter in trained:
            parameter.grad = None

    walk()
    model.train, model.zero_grad = train, zero_grad
    try:
        yield
    finally:
        del model.train, model.zero_grad
