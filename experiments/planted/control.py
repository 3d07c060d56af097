"""The positive control: studies of every truth, counted by verdict, and what has to come out."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from manifold_lora.experiments.executors.interrupt import end_with_parent
from manifold_lora.experiments.planted.settings import PlantedSettings, TruthName
from manifold_lora.experiments.planted.study import Reading, run_study
from manifold_lora.experiments.reports.verdicts import FORM, NORMS

POSITIVE = (NORMS, FORM)
# Of all studies: what may be said wrongly, and what has to be found.
MOST_WRONG, LEAST_FOUND = 0.1, 0.7


@dataclass(frozen=True)
class Criterion:
    """How often some words may or must be said where a truth is planted."""

    truth: TruthName
    words: tuple[str, ...]
    at_most: bool

    def bound(self, studies: int) -> int:
        """The largest (smallest) count that passes; a rounding error is no study."""
        if self.at_most:
            return math.floor(MOST_WRONG * studies + 1e-9)
        return math.ceil(LEAST_FOUND * studies - 1e-9)

    def passes(self, count: int, studies: int) -> bool:
        """Is a count within the bound?"""
        return count <= self.bound(studies) if self.at_most else count >= self.bound(studies)


CRITERIA = (
    Criterion("linear", POSITIVE, at_most=True),
    Criterion("saturating", POSITIVE, at_most=True),
    Criterion("power", (FORM,), at_most=True),
    Criterion("lorentz", POSITIVE, at_most=False),
)


def run_studies(settings: PlantedSettings) -> Iterator[Reading]:
    """All studies, each as it ends."""
    asked = [(truth, number, settings) for truth in settings.truths for number in range(settings.studies)]
    if settings.jobs == 1:
        yield from (run_study(*one) for one in asked)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(settings.jobs, mp_context=context, initializer=end_with_parent)
    try:
        for done in as_completed([pool.submit(run_study, *one) for one in asked]):
            yield done.result()
    finally:
        # Left to itself a pool would finish every study that waits.
        pool.shutdown(cancel_futures=True)


def count(readings: Sequence[Reading], truth: TruthName, words: Sequence[str]) -> int:
    """In how many studies of a truth one of these words was said."""
    said = Counter(one.word for one in readings if one.truth == truth)
    return sum(said[word] for word in words)
