"""One training run of an adapter or of a base: transformers.Trainer, guarded and measured."""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from manifold_lora.experiments.encoding import Encoded, encode_pairs, pad_id, pad_right
from manifold_lora.experiments.sampler import LengthPools
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.manifolds.errors import ManifoldLoraError
from manifold_lora.models.optim import parameter_groups

OnStep = Callable[[int, float], None]


class DivergedError(ManifoldLoraError):
    """Training met a value that is not finite; nothing was saved."""

    status = "diverged"


@dataclass(frozen=True)
class TrainSettings:
    """How long, how fast and from which seed.

    ``geometry_lr_factor`` multiplies the learning rate of curvatures and norm scalings, which never decay.
    ``checkpoint_every`` writes a resumable checkpoint every so many steps; 0 writes none.
    """

    learning_rate: float
    steps: int
    batch_size: int = 32
    seed: int = 0
    weight_decay: float = 0.0
    warmup_ratio: float = 0.05
    max_length: int = 512
    geometry_lr_factor: float = 1.0
    max_grad_norm: float = 1.0
    checkpoint_every: int = 0


@dataclass(frozen=True)
class TrainReport:
    """The loss of every step and what the run cost; ``left_out`` examples were longer than allowed."""

    losses: list[float] = field(repr=False)
    seconds: float
    tokens: int
    tokens_per_second: float
    peak_memory_mb: float
    trainable_parameters: int
    left_out: int


def fit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: TrainSettings,
    output_dir: str | Path,
    on_step: OnStep | None = None,
    resume_from: str | Path | None = None,
) -> TrainReport:
    """Train the trainable parameters of ``model`` in place on the targets of ``examples``.

    Args:
        model: the model; moved nowhere, saved nowhere.
        tokenizer: its tokenizer.
        examples: what to learn from, drawn in an order that the seed gives.
        settings: how.
        output_dir: where checkpoints go, if any are asked for.
        on_step: called with the step just done, from 1 on, and its loss.
        resume_from: a checkpoint folder of an earlier run of the same settings.

    Raises:
        DivergedError: a loss, gradient or weight that is not finite, at the step it appears.
        ManifoldLoraError: nothing to train, or nothing to train on.
    """
    encoded = encode_pairs(
        tokenizer, [example.prompt for example in examples], [example.target for example in examples]
    )
    return fit_encoded(model, tokenizer, encoded, settings, output_dir, on_step, resume_from)


def fit_encoded(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Encoded],
    settings: TrainSettings,
    output_dir: str | Path,
    on_step: OnStep | None = None,
    resume_from: str | Path | None = None,
) -> TrainReport:
    """As ``fit``, on token ids."""
    kept = [item for item in encoded if len(item["input_ids"]) <= settings.max_length]
    if not kept:
        raise ManifoldLoraError(
            "training examples", 0, f"at least one of at most {settings.max_length} tokens"
        )
    set_seed(settings.seed)
    trainer = GuardedTrainer(
        on_step or (lambda step, loss: None),
        model=model,
        args=_arguments(model, settings, output_dir, len(kept)),
        train_dataset=kept,
        data_collator=partial(pad_right, filler=pad_id(tokenizer)),
        optimizers=(_optimizer(model, settings), None),
    )
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    seconds = time.perf_counter() - start
    trainer.check_weights()
    return TrainReport(
        losses=trainer.losses,
        seconds=seconds,
        tokens=trainer.tokens,
        tokens_per_second=trainer.tokens / seconds,
        peak_memory_mb=_peak_memory_mb(model),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        left_out=len(encoded) - len(kept),
    )


def _arguments(
    model: PreTrainedModel | PeftModel, settings: TrainSettings, output_dir: str | Path, examples: int
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output_dir),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup_ratio * settings.steps),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=model.device.type == "cpu",
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or settings.steps,
        save_total_limit=2,
        dataloader_drop_last=examples >= settings.batch_size,
        dataloader_pin_memory=model.device.type != "cpu",
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        logging_strategy="no",
        disable_tqdm=True,
        report_to=[],
    )


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    groups = parameter_groups(
        model,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        geometry_lr_factor=settings.geometry_lr_factor,
    )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


class GuardedTrainer(Trainer):
    """A Trainer that stops at the first value that is not finite, and keeps every loss."""

    def __init__(self, on_step: OnStep, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.losses: list[float] = []
        self.tokens = 0
        self._on_step = on_step
        self._examples: list[Encoded] = arguments["train_dataset"]
        self._named = list(arguments["model"].named_parameters())
        self._trained = [parameter for _, parameter in self._named if parameter.requires_grad]
        self._norm = torch.zeros(())
        # It prints the totals of a run, which the report holds.
        self.remove_callback(PrinterCallback)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """As Trainer, then looks at the loss and the gradients before anything is updated, and clips."""
        self.tokens += int(inputs["attention_mask"].sum())
        loss = super().training_step(model, inputs, *args, **kwargs)
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(loss + self._norm):
            self._stop("loss" if not torch.isfinite(loss) else "gradient")
        torch.nn.utils.clip_grads_with_norm_(self._trained, self.args.max_grad_norm, self._norm)
        self.losses.append(loss.item())
        self._on_step(self.state.global_step + 1, self.losses[-1])
        return loss

    def check_weights(self) -> None:
        """Raises DivergedError if a trained weight is not finite."""
        if not all(parameter.isfinite().all() for parameter in self._trained):
            self._stop("weight")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(item["input_ids"]) for item in train_dataset or self._examples]
        return LengthPools(lengths, self.args.train_batch_size, self.args.seed)

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        # Done in training_step; the inherited one walks over all modules twice more.
        return self._norm

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: counting walks over all parameters at every step."""
        return 0

    def _stop(self, what: str) -> None:
        step = self.state.global_step + 1
        raise DivergedError(
            f"{what} at step {step}",
            _first_not_finite(self._named),
            "finite values",
            "lower the learning rate",
        )


def _first_not_finite(parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    """The first parameter whose value, else whose gradient, is not finite."""
    in_gradient = ""
    for name, parameter in parameters:
        if not parameter.isfinite().all():
            return f"{name} not finite"
        if not in_gradient and parameter.grad is not None and not parameter.grad.isfinite().all():
            in_gradient = f"gradient of {name} not finite"
    return in_gradient or "a loss that is not finite while all weights and gradients are"


def _peak_memory_mb(model: PreTrainedModel | PeftModel) -> float:
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
