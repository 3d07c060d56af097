"""A positive control in lines: what was said of each truth, what passes, what your own sizes can show."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from manifold_lora.experiments.planted.control import CRITERIA, POSITIVE, count
from manifold_lora.experiments.planted.gains import Geometry
from manifold_lora.experiments.planted.settings import TRUTHS, PlantedSettings, TruthName
from manifold_lora.experiments.planted.study import Reading, radius, sizes
from manifold_lora.experiments.reports.verdicts import p_text
from manifold_lora.experiments.results.accuracy import percent
from manifold_lora.models.dose import dose


def dose_at_start(truth: TruthName, settings: PlantedSettings) -> float:
    """The dose of the curved arm before training, over tokens at the quantiles of their norms."""
    places = (np.arange(4000) + 0.5) / 4000
    normal = torch.distributions.Normal(0.0, 1.0).icdf(torch.from_numpy(places))
    norm = np.exp(settings.sigma * normal.numpy())[:, None]
    gains = Geometry(radius(truth, settings), settings.max_angle).value(norm, np.zeros_like(norm), norm)
    return float(dose(torch.from_numpy(gains[:, 0])))


def lines(readings: Sequence[Reading], settings: PlantedSettings) -> Iterator[str]:
    """The whole summary."""
    for truth in settings.truths:
        yield from _of_truth(truth, [one for one in readings if one.truth == truth], settings)
    for criterion in CRITERIA:
        if criterion.truth in settings.truths:
            found = count(readings, criterion.truth, criterion.words)
            bound = f"{'at most' if criterion.at_most else 'at least'} {criterion.bound(settings.studies)}"
            words = " or ".join(criterion.words)
            state = "passed" if criterion.passes(found, settings.studies) else "MISSED"
            yield f"{state}: {criterion.truth}: {words} in {found} of {settings.studies}, {bound} wanted"
    if "yours" in settings.truths:
        yield _power(readings, settings)
    if "argmax" in settings.truths:
        yield _warning(readings, settings)


def missed(readings: Sequence[Reading], settings: PlantedSettings) -> bool:
    """Did a criterion of a truth that was planted fail?"""
    return any(
        not one.passes(count(readings, one.truth, one.words), settings.studies)
        for one in CRITERIA
        if one.truth in settings.truths
    )


def _of_truth(truth: TruthName, of: Sequence[Reading], settings: PlantedSettings) -> Iterator[str]:
    seeds, items = sizes(truth, settings)
    said = ", ".join(f"{number} {word}" for word, number in Counter(one.word for one in of).most_common())
    at = f"R {radius(truth, settings):g}, dose {percent(dose_at_start(truth, settings))} %"
    yield f"{truth} ({TRUTHS[truth]}; {at}, {seeds} seeds x {items} items): {said}"
    gaps: dict[str, list[float]] = {}
    for one in of:
        for item in one.row.comparisons:
            gaps.setdefault(item.other, []).append(item.difference.mean)
    means = ", ".join(f"{percent(float(np.mean(gap)), '+')} to {other}" for other, gap in gaps.items())
    yield f"  {of[0].row.label}, mean difference in points: {means}"


def _power(readings: Sequence[Reading], settings: PlantedSettings) -> str:
    found = count(readings, "yours", POSITIVE)
    power = f"{found} of {settings.studies} ({percent(found / settings.studies)} %)"
    advice = "" if found >= 0.8 * settings.studies else "; below 80 %: read such a table for equivalence only"
    return f"power at your R {settings.R:g}, {settings.seeds} seeds x {settings.items} items: {power}{advice}"


def _warning(readings: Sequence[Reading], settings: PlantedSettings) -> str:
    found = count(readings, "argmax", POSITIVE)
    return (
        f"warning: labels that are the teacher's likeliest class give LoRA's own update a positive word in "
        f"{found} of {settings.studies}; the curved arm does score better there, and no control explains it: "
        "relabel by the best norm-blind arm (a self-distilled null) before believing such a word"
    )


def csv_rows(readings: Sequence[Reading]) -> list[dict[str, object]]:
    """One row a study: its verdict, and the difference and p of every comparison."""
    rows = []
    for one in readings:
        row: dict[str, object] = {"truth": one.truth, "study": one.number, "verdict": one.word}
        row |= {"learning_rate": one.row.chosen.value, "because": one.because}
        for item in one.row.comparisons:
            gap = item.difference
            row |= {f"{item.other} difference": gap.mean, f"{item.other} low": gap.low}
            row |= {f"{item.other} high": gap.high, f"{item.other} p": gap.p}
        rows.append(row)
    return rows


def progress(done: int, total: int, one: Reading) -> str:
    """A line for a study that has ended."""
    worst = max(item.difference.p for item in one.row.comparisons)
    return f"{done}/{total} {one.truth} {one.number}: {one.word} (largest p {p_text(worst)})"
