"""One figure of a contestant beside peft's LoRA, and how figures of time and memory are made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from manifold_lora.experiments.bench.rounds import Pace, compare, repeats_for

BASELINE = "peft lora"
STEP, FORWARD = "training step", "forward"
SAVED, PEAK = "saved beyond LoRA", "peak of a step"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Cost:
    """One figure: a contestant's ratio to peft's LoRA, median and quartiles, and its own amount.

    ``rounds`` is 0 for what is counted; of what is saved beyond LoRA's the amount is bytes a token. ``asked``
    is the largest figure that is wanted.
    """

    where: str
    dtype: str
    what: str
    contestant: str
    ratio: float
    low: float
    high: float
    amount: float
    unit: str
    rounds: int = 0
    asked: float | None = None

    @property
    def figure(self) -> float:
        """What a target is about: the amount of what is saved beyond LoRA's, else the ratio."""
        return self.amount if self.what == SAVED else self.ratio

    @property
    def met(self) -> bool:
        """Is the figure, as it is printed, what is asked?"""
        return self.asked is None or round(self.figure, 3) <= self.asked


def verdict(cost: Cost) -> str:
    """Such as ", 0.97 asked: met"; empty where nothing is asked."""
    if cost.asked is None:
        return ""
    form = "{:.0f}" if cost.what == SAVED else "{:.2f}"
    return f", {form.format(cost.asked)} asked: {'met' if cost.met else 'missed'}"


def line(cost: Cost) -> str:
    """One figure for the console."""
    figure = f"{cost.ratio:6.3f}  [{cost.low:.3f}, {cost.high:.3f}]  {cost.amount:10.3f} {cost.unit}"
    return f"{cost.where:26} {cost.dtype:9} {cost.what:18} {cost.contestant:20} {figure}{verdict(cost)}"


def timed(
    where: str,
    dtype: str,
    what: str,
    models: Mapping[str, nn.Module],
    act: Callable[[nn.Module], object],
    pace: Pace,
) -> Iterator[Cost]:
    """CPU time of an act by every contestant, as ratios of the same round."""
    runs = {name: partial(act, model) for name, model in models.items()}
    repeats = repeats_for(runs[BASELINE])
    for name, ratio in compare(runs, BASELINE, pace, repeats).items():
        figures = (ratio.median, ratio.low, ratio.high, ratio.milliseconds)
        yield Cost(where, dtype, what, name, *figures, "ms", ratio.rounds)


def counted(where: str, dtype: str, what: str, sizes: Mapping[str, int], tokens: int) -> Iterator[Cost]:
    """Bytes of every contestant: in MiB, or a token's beyond LoRA's."""
    base = sizes[BASELINE]
    for name, size in sizes.items():
        ratio = size / base
        amount, unit = ((size - base) / tokens, "B a token") if what == SAVED else (size / 2**20, "MiB")
        yield Cost(where, dtype, what, name, ratio, ratio, ratio, amount, unit)
