"""Weights that are frames, kept so while an optimiser moves them; and how far they have drifted."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from manifold_lora.adapters.framed import frames_of
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.frames import Frames, Free, Landing
from manifold_lora.models.tuner.variant import CORE

# Retraction keeps float32 frames to 1e-6 and bfloat16 ones to 1e-2; landing lets go of them by design.
TOLERANCE, LANDING_TOLERANCE = 0.03, 0.3


class DriftWarning(UserWarning):
    """Weights that were to be frames and no longer are: the optimiser moves them as free matrices."""


@dataclass(frozen=True)
class Factor:
    """One A, or one B transposed: ``name`` is the parameter's in the model."""

    name: str
    parameter: nn.Parameter
    frames: Frames
    transposed: bool

    def rows(self, tensor: Tensor) -> Tensor:
        """A tensor of the parameter's shape as (r, n)."""
        return tensor.mT if self.transposed else tensor


def factors(model: nn.Module) -> Iterator[Factor]:
    """The factors of a model that live on a manifold."""
    for name, layer in model.named_modules():
        for adapter, weights in getattr(layer, CORE, {}).items():
            for part in ("A", "B"):
                frames = frames_of(weights.spec, part)
                if not isinstance(frames, Free):
                    parameter = getattr(layer, f"lora_{part}")[adapter].weight
                    yield Factor(f"{name}.lora_{part}.{adapter}.weight", parameter, frames, part == "B")


@torch.no_grad()
def frame_drift(model: nn.Module) -> dict[str, float]:
    """Parameter name -> largest entry of X X^T - 1 (of its diagonal, for oblique); empty without frames."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return {f.name: float(f.frames.drift(_wide(f.rows(f.parameter)))) for f in factors(base)}


def keep_frames(optimizer: Optimizer, model: nn.Module) -> Callable[[], None]:
    """Let every step of any optimiser stay on the manifolds of a model's weights; returns what ends it.

    Before a step gradients are made Riemannian; after it the way that each factor went is projected on the
    tangent space and retracted, factors of one shape at once. A Trainer takes ``FramesCallback`` instead.

    Raises ManifoldLoraError for weights that are sharded: frames need whole rows.
    """
    keeper = _Keeper(list(factors(model)))
    handles = [
        optimizer.register_step_pre_hook(lambda *_: keeper.before()),
        optimizer.register_step_post_hook(lambda *_: keeper.after()),
    ]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


class _Keeper:
    """The two halves of a step."""

    def __init__(self, members: list[Factor]) -> None:
        self.groups: dict[Any, list[Factor]] = {}
        for one in members:
            if isinstance(one.parameter, DTensor):
                hint = "train with whole adapters (DDP), or leave weight_manifold out"
                raise ManifoldLoraError("frame", one.name, "weights that are not sharded", hint)
            kind = type(one.frames), one.rows(one.parameter).shape, one.parameter.dtype, one.parameter.device
            self.groups.setdefault(kind, []).append(one)
        self.starts: list[tuple[list[Factor], Tensor]] = []

    @torch.no_grad()
    def before(self) -> None:
        self.starts = []
        for group in self.groups.values():
            moving = [one for one in group if one.parameter.grad is not None]
            if not moving:
                continue
            X = torch.stack([_wide(one.rows(one.parameter)) for one in moving])
            slope = torch.stack([_wide(one.rows(one.parameter.grad)) for one in moving])  # type: ignore[arg-type]
            for one, tangent in zip(moving, moving[0].frames.proju(X, slope), strict=True):
                one.parameter.grad.copy_(one.rows(tangent))  # type: ignore[union-attr]
            self.starts.append((moving, X))

    @torch.no_grad()
    def after(self) -> None:
        for moved, X in self.starts:
            frames = moved[0].frames
            step = torch.stack([_wide(one.rows(one.parameter)) for one in moved]) - X
            for one, new in zip(moved, frames.retract(X, frames.proju(X, step)), strict=True):
                one.parameter.copy_(one.rows(new))
        self.starts = []


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class FramesCallback(TrainerCallback):
    """``keep_frames`` in a Trainer: ``Trainer(..., callbacks=[FramesCallback()])``; idle without frames.

    Raises ManifoldLoraError as ``keep_frames`` does, before the first step.
    """

    def __init__(self) -> None:
        self._end: Callable[[], None] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call."""
        wrapped = kwargs["optimizer"]
        # accelerate's wrapper has no hooks of its own.
        self._end = keep_frames(getattr(wrapped, "optimizer", wrapped), kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Trainer's call."""
        if self._end is not None:
            self._end()
            self._end = None


class DriftWatch:
    """A hook that looks at one frame in training passes 2, 4, 8, ..., and warns once where it has drifted."""

    def __init__(self, watched: Factor) -> None:
        self.watched, self.passes = watched, 0
        self.handle: Any = None

    @classmethod
    def at(cls, model: nn.Module) -> None:
        """Watch a model, if it has frames."""
        first = next(factors(model), None)
        if first is not None:
            watch = cls(first)
            watch.handle = model.register_forward_pre_hook(watch.look)

    def look(self, model: nn.Module, args: Any) -> None:
        """Before a forward pass."""
        if not model.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        self.passes += 1
        if self.passes < 2 or self.passes & (self.passes - 1):
            return
        one = self.watched
        drift = float(one.frames.drift(_wide(one.rows(one.parameter.detach()))))
        if drift > (LANDING_TOLERANCE if isinstance(one.frames, Landing) else TOLERANCE):
            self.handle.remove()
            warnings.warn(
                f"{one.name} is {drift:.2g} off its frame: nothing keeps it there; call "
                "manifold_lora.models.keep_frames(optimizer, model), or train with FramesCallback()",
                DriftWarning,
                stacklevel=2,
            )
