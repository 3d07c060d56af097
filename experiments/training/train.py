"""One training run of an adapter or of a base: guarded, measured and, if asked, resumable."""

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.baselines import callbacks
from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.device import is_first
from manifold_lora.experiments.training.encoding import Encoded, encode_examples, pad_id, pad_right
from manifold_lora.experiments.training.logs import RunLogs
from manifold_lora.experiments.training.trainer import GROUPED, Carried, GuardedTrainer, OnStep
from manifold_lora.models.liveness import LivenessCallback
from manifold_lora.models.optim import parameter_groups


@dataclass(frozen=True)
class TrainReport:
    """The loss of every step and what the run cost; ``left_out`` examples were longer than allowed.

    ``resumed_from`` is the step of the checkpoint that the run went on from, 0 for the start; ``set_aside``
    says which newer checkpoints did not verify, and why.
    """

    losses: list[float] = field(repr=False)
    seconds: float
    tokens: int
    tokens_per_second: float
    peak_memory_mb: float
    trainable_parameters: int
    left_out: int
    resumed_from: int = 0
    set_aside: tuple[str, ...] = ()


def fit(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: TrainSettings,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    carried: Carried | None = None,
    lora_plus_ratio: float = 1.0,
    logs: RunLogs | None = None,
) -> TrainReport:
    """Train the trainable parameters of ``model`` in place on the targets of ``examples``.

    Args:
        model: the model, as it is to start; moved nowhere, saved nowhere.
        tokenizer: its tokenizer.
        examples: what to learn from, drawn in an order that the seed gives.
        settings: how.
        on_step: called with the step just done, from 1 on, and its loss.
        checkpoints: those of earlier, interrupted runs of the same settings, the newest of which that
            verifies is gone on from; and where ``settings.checkpoint_every`` writes more. The result is that
            of an uninterrupted run, to the last bit on a CPU.
        carried: what measures along the way.
        lora_plus_ratio: the learning rate of LoRA's B over that of A.
        logs: where every step is told; not in the later ones of several processes.

    Raises:
        DivergedError: a loss, gradient, module output or weight that is not finite, at the step it appears.
        DeadLayerError: an adapted layer that the model does not call or that gets no gradient, at step 1.
        CheckpointError: a checkpoint could not be written.
        ManifoldLoraError: nothing to train, or nothing to train on.
    """
    encoded = encode_examples(tokenizer, examples)
    return fit_encoded(
        model, tokenizer, encoded, settings, on_step, checkpoints, carried, lora_plus_ratio, logs
    )


def fit_encoded(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Encoded],
    settings: TrainSettings,
    on_step: OnStep | None = None,
    checkpoints: Checkpoints | None = None,
    carried: Carried | None = None,
    lora_plus_ratio: float = 1.0,
    logs: RunLogs | None = None,
) -> TrainReport:
    """As ``fit``, on token ids."""
    kept = [item for item in encoded if len(item["input_ids"]) <= settings.max_length]
    if not kept:
        raise ManifoldLoraError(
            "training examples", 0, f"at least one of at most {settings.max_length} tokens"
        )
    logs = logs if is_first() else None
    reporters = logs.reporters(settings.report_to) if logs else []
    set_seed(settings.seed)
    with TemporaryDirectory() as unused:  # Trainer wants a folder even where it saves nothing
        trainer = GuardedTrainer(
            on_step or (lambda step, loss: None),
            checkpoints if settings.checkpoint_every else None,
            carried,
            logs,
            model=model,
            args=_arguments(model, settings, unused, len(kept)),
            train_dataset=kept,
            data_collator=partial(pad_right, filler=pad_id(tokenizer)),
            optimizers=(_optimizer(model, settings, lora_plus_ratio), None),
            callbacks=[
                LivenessCallback(),
                *callbacks(model, resumable=bool(settings.checkpoint_every)),
                *reporters,
            ],
        )
        newest = checkpoints.newest() if checkpoints else None
        trainer.run(newest)
    return TrainReport(
        losses=trainer.losses,
        seconds=trainer.seconds,
        tokens=trainer.tokens,
        tokens_per_second=trainer.tokens / trainer.seconds,
        peak_memory_mb=_peak_memory_mb(model),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        left_out=len(encoded) - len(kept),
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
        dataloader_drop_last=examples >= settings.batch_size,
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
