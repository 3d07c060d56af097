"""Interleaved measurement: what the machine does meanwhile falls on both sides of a ratio."""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

_WARMUP = 2


class Ratio(NamedTuple):
    """A contestant's time over the baseline's of the same round, median and quartiles; its own time."""

    median: float
    low: float
    high: float
    milliseconds: float


def cpu_seconds(act: Callable[[], object], repeats: int) -> float:
    """The process's CPU time over some runs."""
    start = time.process_time()
    for _ in range(repeats):
        act()
    return time.process_time() - start


def compare(
    runs: Mapping[str, Callable[[], object]],
    baseline: str,
    rounds: int,
    repeats: int = 1,
    measure: Callable[[Callable[[], object], int], float] = cpu_seconds,
) -> dict[str, Ratio]:
    """Run all contestants in every round, in a new random order, and compare each with the baseline.

    Args:
        runs: what each contestant does.
        baseline: whose time is 1.
        rounds: how many, after two that are not counted.
        repeats: runs that make one measurement, for what takes microseconds.
        measure: the seconds of a contestant's runs.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffle = list(runs), random.Random(0).shuffle
    for turn in range(rounds + _WARMUP):
        shuffle(order)
        for name in order:
            spent = measure(runs[name], repeats) / repeats
            if turn >= _WARMUP:
                times[name].append(spent)
    return {name: _ratio(spent, times[baseline]) for name, spent in times.items()}


def _ratio(spent: list[float], base: list[float]) -> Ratio:
    low, median, high = statistics.quantiles(
        [mine / other for mine, other in zip(spent, base, strict=True)], n=4
    )
    return Ratio(median, low, high, 1e3 * statistics.median(spent))
