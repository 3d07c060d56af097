"""What a contestant has to give: its work in float64, by the formula that defines it.

A figure says nothing of a contestant that computes something else. Ours are compared with the geometry's own
maps, those by hand with the contestant whose work they do, peft's with themselves in float64.
"""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.bench.contestants import SAME_AS, apart
from manifold_lora.experiments.bench.cost import DTYPES

# Output or gradient's name -> value.
Results = dict[str, Tensor]
# A model and the dtype of what it is given -> what it gives.
Work = Callable[[nn.Module, torch.dtype], Results]
# Largest abs(got - want) / abs(want), over all entries of a tensor, that is rounding.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}
# By the arc hyperbolic cosine of a number near 1 (docs/accuracy.md): ten times as much is theirs.
_LOSE_DIGITS = ("textbook", "geoopt")


class Differs(ManifoldLoraError):
    """A contestant does not compute what it is timed for."""


def check(
    where: str,
    dtype: str,
    models: Mapping[str, nn.Module],
    work: Work,
    tolerances: Mapping[str, float] = TOLERANCES,
) -> dict[str, float]:
    """Compare every contestant's outputs and gradients with its oracle's; name -> its largest difference.

    Raises Differs for a relative difference beyond the tolerance of the dtype, or one that is no number.
    """
    oracles: dict[str, Results] = {}
    largest: dict[str, float] = {}
    for name, model in models.items():
        same = SAME_AS.get(name, name)
        if same not in oracles:
            oracles[same] = work(exact(models[same]), torch.float64)
        got = work(model, DTYPES[dtype])
        model.zero_grad(set_to_none=True)
        for key, want in oracles[same].items():
            if key not in got and same != name and "lora_manifold" in key:
                continue  # By hand the scale is another parameter.
            difference = _difference(got[key], want) if key in got else math.nan
            # One number is a sum over all tokens, most of which cancels.
            allowed = tolerances[dtype] * (10 if want.numel() == 1 or name in _LOSE_DIGITS else 1)
            if not difference <= allowed:
                asked = f"{key} of {name} at {where}, {dtype}"
                found = f"a relative difference of {difference:.2g}" if key in got else "none"
                raise Differs(asked, found, f"within {allowed:g} of float64")
            largest[name] = max(largest.get(name, 0.0), difference)
    return largest


def exact(model: nn.Module) -> nn.Module:
    """A copy in float64 whose layers go peft's way and whose updates are the geometry's maps themselves."""
    copy = apart(deepcopy(model).double())
    for module in copy.modules():
        if isinstance(module, ManifoldUpdate):
            module.use("general")
    return copy


def gradients(model: nn.Module) -> Results:
    """The gradients of what is trained, by names that contestants share."""
    return {
        f"gradient by {_short(name)}": parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _short(name: str) -> str:
    for prefix in ("base_model.model.", "layer."):
        name = name.removeprefix(prefix)
    return name.replace(".default", "").replace(".weight", "")


def _difference(got: Tensor, want: Tensor) -> float:
    got, want = got.detach().double(), want.detach()
    size = torch.linalg.vector_norm(want)
    return (torch.linalg.vector_norm(got - want) / torch.where(size > 0, size, 1.0)).item()
