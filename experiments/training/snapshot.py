"""The state of a training run as plain bytes: safetensors and JSON, nothing pickled."""

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError

TENSORS, STATE = "tensors.safetensors", "state.json"
_MODEL, _OPTIMIZER, _RNG, _BEST = "model/", "optimizer/", "rng/", "best/"


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    carried: Mapping[str, Any],
    best: Mapping[str, Tensor],
) -> dict[str, bytes]:
    """Trainable parameters, optimiser, scheduler and random states, by file name.

    Args:
        carried: what else the run needs to go on, as JSON data.
        best: the weights that early stopping holds on to.
    """
    state = optimizer.state_dict()
    tensors = {f"{_MODEL}{name}": parameter.data for name, parameter in _trainable(model).items()}
    tensors |= {f"{_BEST}{name}": weight for name, weight in best.items()}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{index}/{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    tensors |= _random_tensors()
    data = {
        "optimizer": {"groups": state["param_groups"], "plain": plain},
        "scheduler": scheduler.state_dict(),
        "random": {"python": random.getstate(), "numpy": _numpy_state()},
        "carried": dict(carried),
    }
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return {TENSORS: save(cpu), STATE: json.dumps(data, allow_nan=False).encode()}


class Snapshot:
    """What ``capture`` took, ready to be put back into a model built anew in the same way."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._tensors: dict[str, Tensor] = load(files[TENSORS])
        self._data: dict[str, Any] = json.loads(files[STATE])
        self.carried: dict[str, Any] = self._data["carried"]
        self.best = self._part(_BEST)

    def restore_weights(self, model: nn.Module) -> None:
        """Copy the trainable parameters back; raises ManifoldLoraError if they are not the model's."""
        saved = self._part(_MODEL)
        parameters = _trainable(model)
        shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
        if shapes != {name: tuple(parameter.shape) for name, parameter in parameters.items()}:
            odd = sorted(set(saved) ^ set(parameters)) or ["a shape"]
            raise ManifoldLoraError("checkpoint", odd[0], "the trainable parameters of this model")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])

    def restore_optimizer(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        """Put moments, step counts and learning rates back."""
        saved = self._data["optimizer"]
        state: dict[int, dict[str, Any]] = {
            int(index): dict(entries) for index, entries in saved["plain"].items()
        }
        for name, tensor in self._part(_OPTIMIZER).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        groups = [
            {key: tuple(value) if key == "betas" else value for key, value in group.items()}
            for group in saved["groups"]
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        scheduler.load_state_dict(self._data["scheduler"])

    def restore_random(self) -> None:
        """Set the random states of Python, NumPy, torch and every CUDA device."""
        version, numbers, gauss = self._data["random"]["python"]
        random.setstate((version, tuple(numbers), gauss))
        kind, keys, *rest = self._data["random"]["numpy"]
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        saved = self._part(_RNG)
        torch.set_rng_state(saved.pop("cpu"))
        if len(saved) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
            torch.cuda.set_rng_state_all([saved[str(device)] for device in range(len(saved))])

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self._tensors.items()
            if name.startswith(prefix)
        }


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _random_tensors() -> dict[str, Tensor]:
    states = {f"{_RNG}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"{_RNG}{device}": state for device, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _numpy_state() -> list[Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return [kind, np.asarray(keys).tolist(), *rest]
