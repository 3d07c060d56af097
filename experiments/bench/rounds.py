"""Interleaved measurement: what the machine does meanwhile falls on both sides of a ratio."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

_WARMUP = 2
# Where time is short: fewer make no quartiles.
FEWEST = 3


class Pace(NamedTuple):
    """How long a comparison lasts: so many rounds, or those that begin within the CPU seconds of all."""

    rounds: int
    seconds: float = math.inf


class Ratio(NamedTuple):
    """A contestant's time over the baseline's of the same round, median and quartiles; its own time."""

    median: float
    low: float
    high: float
    milliseconds: float
    rounds: int


def cpu_seconds(act: Callable[[], object], repeats: int) -> float:
    """The process's CPU time over some runs."""
    start = time.process_time()
    for _ in range(repeats):
        act()
    return time.process_time() - start


def compare(
    runs: Mapping[str, Callable[[], object]],
    baseline: str,
    rounds: Pace | int,
    repeats: int = 1,
    measure: Callable[[Callable[[], object], int], float] = cpu_seconds,
) -> dict[str, Ratio]:
    """Run all contestants in every round, in a new random order, and compare each with the baseline.

    Args:
        runs: what each contestant does.
        baseline: whose time is 1.
        rounds: how many, after two that are not counted; a pace with seconds ends them early, but for the
            first three, and counts from the second round on where one round takes a tenth of them.
        repeats: runs that make one measurement, for what takes microseconds.
        measure: the seconds of a contestant's runs.
    """
    pace = rounds if isinstance(rounds, Pace) else Pace(rounds)
    order, shuffle = list(runs), random.Random(0).shuffle

    def one_round() -> dict[str, float]:
        shuffle(order)
        return {name: measure(runs[name], repeats) / repeats for name in order}

    for _ in range(_WARMUP):
        if repeats * sum(one_round().values()) > pace.seconds / 10:
            break
    done: list[dict[str, float]] = []
    spent = 0.0
    while len(done) < pace.rounds and (len(done) < FEWEST or spent < pace.seconds):
        done.append(one_round())
        spent += repeats * sum(done[-1].values())
    return {name: _ratio([r[name] for r in done], [r[baseline] for r in done]) for name in runs}


def repeats_for(act: Callable[[], object], seconds: float = 0.05, most: int = 20) -> int:
    """How often an act is run for one measurement: for so many CPU seconds, but no more than 20 times."""
    act()
    return max(1, min(most, int(seconds / max(cpu_seconds(act, 1), 1e-9))))


def _ratio(spent: list[float], base: list[float]) -> Ratio:
    low, median, high = statistics.quantiles(
        [mine / other for mine, other in zip(spent, base, strict=True)], n=4
    )
    return Ratio(median, low, high, 1e3 * statistics.median(spent), len(spent))
