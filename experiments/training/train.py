"""One training run of an adapter or of a base: guarded, measured and, if asked, resumable."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryDirectory

import psutil
import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.baselines import callbacks
from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.training.device import is_first
from manifold_lora.experiments.training.encoding import Encoded, pad_id, pad_right
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.trainer import GROUPED, GuardedTrainer
from manifold_lora.models.liveness import LivenessCallback
from manifold_lora.models.optim import parameter_groups
from manifold_lora.models.tuner.frames import FramesCallback


@dataclass(frozen=True)
class TrainReport:
    """The loss of every step and what the run cost.

    ``resumed_from`` is the step of the checkpoint that the run went on from, 0 for the start; ``set_aside``
    says which newer checkpoints did not verify, and why.
    """

    losses: list[float] = field(repr=False)
    seconds: float
    tokens: int
    tokens_per_second: float
    peak_memory_mb: float
    trainable_parameters: int
    resumed_from: int = 0
    set_aside: tuple[str, ...] = ()


def fit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    settings: TrainSettings,
    options: FitOptions | None = None,
) -> TrainReport:
    """Train the trainable parameters of ``model`` in place on encoded rows.

    A resumed run gives the result of an uninterrupted one, to the last bit on a CPU.

    Args:
        model: the model, as it is to start; moved nowhere, saved nowhere.
        tokenizer: says what fills batches up.
        rows: what to learn from, all of it, drawn in an order that the seed gives.
        settings: how.
        options: what is shown, written and measured along the way.

    Raises:
        DivergedError: a loss, gradient, module output or weight that is not finite, at the step it appears.
        DeadLayerError: an adapted layer that the model does not call or that gets no gradient, at step 1.
        CheckpointError: a checkpoint could not be written.
        ManifoldLoraError: nothing to train, or nothing to train on.
    """
    if not rows:
        raise ManifoldLoraError("training rows", 0, "at least one")
    options = options or FitOptions()
    options = options if is_first() else replace(options, logs=None)
    reporters = options.logs.reporters(settings.report_to) if options.logs else []
    stopping = [options.stopping] if options.stopping else []
    set_seed(settings.seed)
    with TemporaryDirectory() as unused:  # Trainer wants a folder even where it saves nothing
        trainer = GuardedTrainer(
            options,
            model=model,
            args=_arguments(model, settings, unused, len(rows)),
            train_dataset=list(rows),
            data_collator=partial(pad_right, filler=pad_id(tokenizer)),
            optimizers=(_optimizer(model, settings, options.lora_plus_ratio), None),
            callbacks=[
                LivenessCallback(),
                FramesCallback(),
                *callbacks(model, resumable=bool(settings.checkpoint_every)),
                *reporters,
                *stopping,
            ],
        )
        checkpoints = options.checkpoints
        newest = checkpoints.newest() if checkpoints else None
        trainer.run(newest)
    return TrainReport(
        losses=trainer.losses,
        seconds=trainer.seconds,
        tokens=trainer.tokens,
        tokens_per_second=trainer.tokens / trainer.seconds,
        peak_memory_mb=_peak_memory_mb(model),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        resumed_from=newest.step if newest else 0,
        set_aside=tuple(checkpoints.refused) if checkpoints else (),
    )


def _arguments(
    model: PreTrainedModel | PeftModel, settings: TrainSettings, unused: str, examples: int
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=unused,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup_ratio * settings.steps),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=model.device.type == "cpu",
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or settings.steps,
        train_sampling_strategy=GROUPED if settings.grouping == "length" else "random",
        dataloader_drop_last=examples >= settings.batch_size * settings.gradient_accumulation,
        dataloader_pin_memory=model.device.type != "cpu",
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        logging_strategy="steps" if settings.report_to else "no",
        logging_steps=1,
        disable_tqdm=True,
        report_to=[],
    )


def _optimizer(model: nn.Module, settings: TrainSettings, lora_plus_ratio: float) -> torch.optim.Optimizer:
    groups = parameter_groups(
        model,
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        geometry_lr_factor=settings.geometry_lr_factor,
        lora_plus_ratio=lora_plus_ratio,
    )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _peak_memory_mb(model: PreTrainedModel | PeftModel) -> float:
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 2**20
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
