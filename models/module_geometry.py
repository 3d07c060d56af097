"""What the tokens of a few batches meet in each adapted layer: lengths, angles, gains and the dose."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.dose import dose
from manifold_lora.models.tuner.token_inputs import active_update, visit_inputs
from manifold_lora.models.tuner.variant import Layer


class Quantiles(NamedTuple):
    """The middle and the upper end of a figure over tokens."""

    median: float
    p99: float
    largest: float

    @classmethod
    def of(cls, values: Tensor) -> "Quantiles":
        """Those of a tensor; NaN where it holds one."""
        wide = values.double().flatten()
        return cls(*wide.quantile(wide.new_tensor([0.5, 0.99, 1.0])).tolist())


@dataclass(frozen=True)
class ModuleGeometry:
    """One adapted layer on calibration tokens: no padding, and the first token of each sequence left out.

    Attributes:
        tokens: how many.
        norm: abs(x).
        angle: a = abs(v)/R before the angle limit; 1/R at the median where s was calibrated and kappa is
            -1/R^2.
        gain: c, where update(x) = c B A x, within the angle limit.
        capped: the share of tokens beyond the limit.
        dose: the share of the update that no constant gain reproduces, for B as it is.
        dose_at_start: the same for B = 0, where nothing has saturated yet.
    """

    tokens: int
    norm: Quantiles
    angle: Quantiles
    gain: Quantiles
    capped: float
    dose: float
    dose_at_start: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            name: value._asdict() if isinstance(value, Quantiles) else value
            for name, value in vars(self).items()
        }


def measure_geometry(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> dict[str, ModuleGeometry]:
    """Module name -> lengths, angles, gains and dose there, of the active manifold adapter as it is.

    Args:
        model: a base model with a manifold adapter, fresh or trained.
        batches: keyword arguments of the model's forward; tokens with ``attention_mask`` 0 do not count.

    Raises ManifoldLoraError if the model has no manifold adapter, the batches are empty, no token reaches a
    layer, or one that does is not finite.
    """
    seen: dict[str, _Tokens] = {}

    def see(name: str, layer: Layer, x: Tensor) -> None:
        seen.setdefault(name, _Tokens()).add(name, layer, x)

    visit_inputs(model, batches, see, first_token=False)
    return {name: tokens.summary() for name, tokens in seen.items()}


def norms_of(name: str, x: Tensor) -> Tensor:
    """abs(x) of each token, in float64. Raises ManifoldLoraError, with the module's name, for NaN or inf."""
    lengths = torch.linalg.vector_norm(x.detach(), dim=-1, dtype=torch.float64).flatten()
    if not bool(lengths.isfinite().all()):
        bad = float(lengths[~lengths.isfinite()][0])
        raise ManifoldLoraError(
            f"input of {name}", bad, "finite numbers", "the base model, or its text, is bad"
        )
    return lengths


class _Tokens:
    """The figures of one layer's tokens, batch by batch."""

    def __init__(self) -> None:
        self.norms: list[Tensor] = []
        self.angles: list[Tensor] = []
        self.gains: list[Tensor] = []
        self.starts: list[Tensor] = []
        self.capped = 0.0

    def add(self, name: str, layer: Layer, x: Tensor) -> None:
        _, update, A, B = active_update(layer)
        self.norms.append(norms_of(name, x))
        self.angles.append(update.angle(x).flatten())
        self.gains.append(update.gain(x, A, B).flatten())
        moved = bool(B.any())
        self.starts.append(update.gain(x, A, 0 * B).flatten() if moved else self.gains[-1])
        self.capped += float(update.capped(x)) * len(x)

    def summary(self) -> ModuleGeometry:
        norms, gains = torch.cat(self.norms), torch.cat(self.gains)
        return ModuleGeometry(
            tokens=len(norms),
            norm=Quantiles.of(norms),
            angle=Quantiles.of(torch.cat(self.angles)),
            gain=Quantiles.of(gains),
            capped=self.capped / len(norms),
            dose=float(dose(gains)),
            dose_at_start=float(dose(torch.cat(self.starts))),
        )
