"""Dose: how much of an update no constant gain reproduces; and the curvature that gives a stated dose."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from manifold_lora.adapters.transforms import Boost, Direct
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.numbers import is_number

OutOfReach = Literal["stop", "nearest"]

# The angle of the median token at which the looking begins and ends, where no limit ends it before. Tokens of
# nearly one length meet the limit together: the largest dose is then a narrow peak, and is looked at closely.
_FIRST, _LAST, _LOOKS = 1e-3, 30.0, 64
_CLOSER, _ROUNDS = 33, 6

Doses = Callable[[Tensor], Tensor]


def dose(gains: Tensor) -> Tensor:
    """sqrt(1 - (mean c)^2 / mean c^2) over the tokens (last axis) whose gains c these are, all alike.

    0 where no gain differs, as under LoRA; NaN where one is not finite. The best constant gain in the mean
    square leaves this share of the update unexplained. Source: MATH.md section 10.
    """
    largest = gains.abs().amax(-1, keepdim=True).double()
    # Over the largest: squares of gains of 1e200 overflow.
    c = torch.where(largest == 0, 1.0, gains.double() / largest)
    spread = (c - c.mean(-1, keepdim=True)).square().mean(-1)
    return (spread / c.square().mean(-1)).sqrt()


def gain_at_start(update: ManifoldUpdate, norms: Tensor) -> Tensor:
    """c at B = 0 of tokens of these lengths, on a radial geometry: that of a layer of width 1."""
    transform: Any = update.transform
    is_boost = isinstance(transform, Boost)
    rank, out = (len(transform.time_A), len(transform.time_B)) if is_boost else (1, 1)
    tokens = norms.double().reshape(-1, 1)
    gains = update.gain(tokens, tokens.new_ones(rank, 1), tokens.new_zeros(out, rank))
    return gains.reshape(norms.shape)


class Dosed(NamedTuple):
    """A curvature and the dose that it gives at the start."""

    kappa: float
    dose: float


def kappa_of_dose(
    name: str, update: ManifoldUpdate, norms: Tensor, share: float, out_of_reach: OutOfReach = "stop"
) -> Dosed:
    """The kappa, of the geometry's sign, at which a module's dose is ``share`` at the start (B = 0).

    The dose rises from 0 as the radius falls, up to a largest one, and falls again where most tokens are
    beyond the angle limit. The answer is on the first branch, that of the larger radius.

    Args:
        name: the module, for messages.
        update: its geometry, ``direct`` on one curvature, its norm scaling calibrated; a control made from
            ``direct`` (norm-blind, power law) takes the curvature of the ``direct`` that it is a control of.
        norms: abs(x) of calibration tokens.
        share: the dose, between 0 and 1.
        out_of_reach: what to do where no curvature gives it: raise, or take the largest dose there is.

    Raises:
        CurvatureError: a dose that this module does not reach; the largest that it does is named.
        ManifoldLoraError: a share that is none, or a geometry without one curvature to choose.
    """
    check_share(share)
    curvature = getattr(update.manifold, "curvature", None)
    if curvature is None or curvature.number() == 0 or not isinstance(update.transform, Direct):
        got = f"{type(update.transform).__name__.lower()} on {type(update.manifold).__name__.lower()}"
        raise ManifoldLoraError(f"dose of {name}", got, "direct on a geometry of one curvature")
    update = _as_direct(update)

    def doses(stretches: Tensor) -> Tensor:
        # A token lambda times as long meets what it would meet at the curvature kappa lambda^2.
        return dose(gain_at_start(update, stretches[:, None] * norms))

    unit = 1 / float(update.angle(norms[:, None]).median())
    looks = _looks(doses, unit, min(_LAST, 2 * update.max_angle), norms)
    found = doses(looks)
    reached = (found >= share).nonzero().flatten()
    if len(reached) and reached[0] > 0:
        stretch = _crossing(doses, looks[reached[0] - 1], looks[reached[0]], share)
        return Dosed(curvature.number() * stretch**2, share)
    best = 0 if len(reached) else int(found.argmax())
    if out_of_reach == "stop":
        rule = "more than" if len(reached) else "at most"
        hint = f"its tokens' lengths allow no other at max_angle {update.max_angle:g}"
        raise CurvatureError(f"dose of {name}", share, f"{rule} {float(found[best]):.3g}", hint)
    return Dosed(curvature.number() * float(looks[best]) ** 2, float(found[best]))


def _looks(doses: Doses, unit: float, last: float, norms: Tensor) -> Tensor:
    """Factors of the length, equally far apart in their logarithms and closer around the largest dose."""
    coarse = torch.logspace(math.log10(_FIRST), math.log10(last), _LOOKS, dtype=torch.float64).to(
        norms.device
    )
    coarse = coarse * unit
    place = int(doses(coarse).argmax())
    around = coarse[max(place - 1, 0)].item(), coarse[min(place + 1, _LOOKS - 1)].item()
    closer = torch.linspace(*around, _CLOSER, dtype=torch.float64, device=norms.device)
    return torch.cat([coarse, closer]).sort().values


def _crossing(doses: Doses, low: Tensor, high: Tensor, share: float) -> float:
    """The factor between two at which the dose comes to ``share``."""
    for _ in range(_ROUNDS):
        closer = torch.linspace(low.item(), high.item(), 17, dtype=torch.float64, device=low.device)
        place = int((doses(closer) >= share).nonzero()[0])
        low, high = closer[max(place - 1, 0)], closer[place]
    return high.item()


def _as_direct(update: ManifoldUpdate) -> ManifoldUpdate:
    """The ``direct`` update on the same geometry and lengths."""
    if type(update.transform) is Direct:
        return update
    parts = update.manifold, Direct(1, 1, 1), update.norm_scaling
    return ManifoldUpdate(*parts, update.token_scale, update.max_angle)


def check_share(share: object) -> float:
    """Return a dose as a float, else raise ManifoldLoraError: it is above 0 and below 1."""
    if not is_number(share) or not 0 < share < 1:
        raise ManifoldLoraError("dose", share, "a number above 0 and below 1")
    return float(share)
