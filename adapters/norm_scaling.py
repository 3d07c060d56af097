"""The length at which a token enters a geometry: v = alpha x (or alpha x / |x|), and delta = beta delta_v.

On a curved space the length of v decides how curved the update is: on Lorentz space delta = c B A x with
c = sinh(a)/a at B = 0, a = |v|/R. With R = 1 and the hidden states of a language model (|x| about sqrt(n),
n the width) the five choices start as follows; c multiplies B's first gradient and is the update's gain.

| name       | alpha     | beta | s at start | gain at start                                              |
|------------|-----------|------|------------|------------------------------------------------------------|
| `identity` | 1         | 1    |            | c at a = sqrt(n): finite, and untrainable from n = 400 on  |
| `fixed`    | 1/s       | s    | sqrt(n)    | c at a = 1, about 1.2: LoRA's learning rates apply         |
| `learned`  | 1/s       | s    | sqrt(n)    | the same; s moves with the data                            |
| `released` | 1/s       | 1    | sqrt(n)    | c/sqrt(n): wants a learning rate sqrt(n) times larger      |
| `unit`     | s (x/|x|) | 1    | 1          | c s/|x|: as `released`, and every token at the same length |

Under `fixed` and `learned` the curvature is the only difference from LoRA, and s acts as a radius: the update
is the one of curvature kappa/s^2 without scaling. `calibrate` replaces sqrt(n) by the median |x| of a module,
which in real models is anything from 0.1 to 17 sqrt(n). Source: arXiv 2410.04010, section 4 (`unit`,
`released`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.precision import keeping_float32
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions
from manifold_lora.numbers import is_number


class ScaleLaw(NamedTuple):
    """The numbers of a norm scaling: v = alpha x, or alpha x / abs(x) if ``unit``; gain = alpha beta.

    A tensor alpha has the shape (1,), or (*tokens, 1) where it differs from token to token.
    """

    alpha: Tensor | float = 1.0
    gain: Tensor | float = 1.0
    unit: bool = False

    def times(self, factor: Float[Tensor, "*tokens 1"]) -> "ScaleLaw":
        """The law that enters ``factor`` times longer and leaves as much shorter."""
        return self._replace(alpha=self.alpha * factor)

    def scale(self, x: Float[Tensor, "*tokens n"]) -> Float[Tensor, "*tokens n"]:
        """v = alpha x (or alpha x / abs(x), 0 at x = 0), in the dtype of x."""
        direction = functions.unit(x) if self.unit else x
        return (direction * self.alpha).to(x.dtype)

    @property
    def s(self) -> Tensor | float:
        """The number s of the table above."""
        return self.alpha if self.unit else 1.0 / self.alpha

    @property
    def beta(self) -> Tensor | float:
        """The factor on the way out."""
        return self.gain / self.alpha


class Calibrated(nn.Module):
    """A scale s of a layer's inputs that starts at sqrt(n), or at the median of abs(x) where that is known.

    Args:
        in_features: the width n of the input.
    """

    # A subclass without such a scale says so.
    divides: ClassVar[bool] = True

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        if self.divides:
            # 0 until calibrated.
            self.register_buffer("median", torch.zeros(1))

    def calibrate(self, median: float) -> None:
        """Start s at the median abs(x) of calibration tokens; does nothing where no s divides x.

        What is learned is kept relative to it: s = median exp(log). The number is saved with the layer.

        Raises:
            ManifoldLoraError: no positive finite number.
        """
        if not is_number(median) or median <= 0:
            raise ManifoldLoraError("median of abs(x)", median, "a positive finite number")
        if self.divides:
            self.get_buffer("median").fill_(median)

    @property
    def is_calibrated(self) -> bool:
        """Was s started at a measured median, or is there no s to start?"""
        return not self.divides or bool(self.get_buffer("median") != 0)

    def start(self, dtype: torch.dtype | None) -> Any:
        """The s from which learning starts, a tensor (1,) of ``dtype``, or a float for None."""
        median: Any = self._buffers["median"]
        if dtype is None:
            return median.item() or math.sqrt(self.in_features)
        return torch.where(median == 0, math.sqrt(self.in_features), median.to(dtype))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Adapters saved before calibration existed started at sqrt(n).
        if self.divides and prefix + "median" not in state_dict:
            state_dict = {**state_dict, prefix + "median": torch.zeros(1)}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(keeping_float32(fn), recurse)


class NormScaling(Calibrated, ABC):
    """Scale on the way into a geometry and back; a newcomer writes ``law``.

    Args:
        in_features: the width n of the input.
    """

    # Does it multiply by constants, so that an update without curvature is a matrix?
    linear: ClassVar[bool] = True
    # Does it divide x by a scale s, which ``calibrate`` starts at the median abs(x)?
    divides: ClassVar[bool] = False
    # Has it learned numbers that the layers of a model may have in common?
    shareable: ClassVar[bool] = False
    # Stated beside a law of one parameter log_scale: alpha and gain go like exp(log_scale) to these powers.
    powers: ClassVar[tuple[int, int] | None] = None

    def __init_subclass__(cls) -> None:
        for name in {"scale", "unscale"} & set(vars(cls)):
            hint = "no path but the general one would ask it"
            raise ManifoldLoraError(f"{cls.__name__}.{name}", "a method of its own", "law alone", hint)
        # A law has the powers stated beside it or none: those of a parent's law are not its own.
        if "law" in vars(cls) and "powers" not in vars(cls):
            cls.powers = None

    @abstractmethod
    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """The factors in effect now: tensors of ``dtype``, differentiable, or floats for None."""

    def share(self, other: "NormScaling") -> None:
        """Have the learned numbers of ``other``, of the same class and any width, in place of one's own.

        Both then hold one table of parameters: whoever replaces an entry of it (a move, a load with
        ``assign``, FSDP2), replaces it for both. Raises ManifoldLoraError where there are none.
        """
        if not self.shareable:
            allowed = "a scaling that is shareable: one with learned numbers"
            raise ManifoldLoraError("shared norm scaling", type(self).__name__, allowed)
        self._parameters = other._parameters

    @final
    def scale(self, x: Float[Tensor, "*tokens n"]) -> tuple[Float[Tensor, "*tokens n"], ScaleLaw]:
        """v = alpha x (or alpha x / abs(x), 0 at x = 0), and what ``unscale`` needs to know."""
        law = self.law(x.dtype)
        return law.scale(x), law

    @final
    def unscale(self, delta: Float[Tensor, "*tokens m"], law: ScaleLaw) -> Float[Tensor, "*tokens m"]:
        """Beta delta."""
        return delta * law.beta


class Identity(NormScaling):
    """v = x, delta unchanged."""

    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """Alpha = beta = 1."""
        return ScaleLaw()


class Fixed(NormScaling):
    """v = x / s and delta times s, with the constant s = sqrt(n), or the calibrated median."""

    divides = True

    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """Alpha = 1/s, beta = s."""
        return ScaleLaw(alpha=1.0 / self.start(dtype))


class LearnedScale(NormScaling):
    """A norm scaling with one learned number, ``log_scale``, that starts at 0."""

    shareable = True

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.log_scale = nn.Parameter(torch.zeros(1))


class Learned(LearnedScale):
    """v = x / s and delta times s, with s = s0 exp(log_scale) learned, s0 = sqrt(n) or the median."""

    divides = True
    powers = (-1, 0)

    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """Alpha = 1/s, beta = s."""
        return ScaleLaw(alpha=_exp(self.log_scale, -1, dtype) / self.start(dtype))


class Released(LearnedScale):
    """v = x / s and nothing on the way out, with s = s0 exp(log_scale) learned, s0 as for ``learned``."""

    divides = True
    powers = (-1, -1)

    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """Alpha = gain = 1/s."""
        alpha = _exp(self.log_scale, -1, dtype) / self.start(dtype)
        return ScaleLaw(alpha=alpha, gain=alpha)


class Unit(LearnedScale):
    """v = s x / abs(x) and nothing on the way out, with s = exp(log_scale) learned."""

    linear = False
    powers = (1, 1)

    def law(self, dtype: torch.dtype | None) -> ScaleLaw:
        """Alpha = gain = s, on the direction of x."""
        alpha = _exp(self.log_scale, 1, dtype)
        return ScaleLaw(alpha=alpha, gain=alpha, unit=True)


def _exp(log: Tensor, sign: int, dtype: torch.dtype | None) -> Tensor | float:
    return math.exp(sign * log.item()) if dtype is None else torch.exp(sign * log.to(dtype))
