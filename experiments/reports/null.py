"""An arm's lead beside the lead it has where the truth is a student that is blind to norms."""

from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.reports.row import ArmRow, Comparison
from manifold_lora.experiments.reports.statistics import LEVEL, CrossedMean
from manifold_lora.experiments.results.accuracy import percent

_BLIND = ("baseline", "gain", "blind")


@dataclass(frozen=True)
class Excess:
    """An arm minus a control on a test set, minus the same in the null; the two taken for independent."""

    arm: str
    real: Comparison
    null: Comparison

    @property
    def crossed(self) -> CrossedMean:
        """The difference of the two leads, their variances added."""
        ours, theirs = self.real.difference.crossed, self.null.difference.crossed
        return CrossedMean(
            ours.mean - theirs.mean,
            ours.by_seeds + theirs.by_seeds,
            ours.by_items + theirs.by_items,
            min(ours.seeds, theirs.seeds),
            min(ours.items, theirs.items),
        )

    @property
    def exceeds(self) -> bool:
        """Whether the lead is larger than the null's at 5 %, by two seeds or more."""
        crossed = self.crossed
        return crossed.seeds > 1 and float(crossed.mean) > 0 and float(crossed.p_values()) < 1 - LEVEL

    def line(self) -> str:
        """The two leads and their difference, in points."""
        mean, half = float(self.crossed.mean), float(self.crossed.half_width(1 - LEVEL))
        word = "exceeds" if self.exceeds else "does not exceed"
        return (
            f"{self.arm} against {self.real.other} on {self.real.test}: "
            f"{percent(self.real.difference.mean, '+')} points {word} the null's "
            f"{percent(self.null.difference.mean, '+')} "
            f"(by {percent(mean, '+')} [{percent(mean - half, '+')}, {percent(mean + half, '+')}])"
        )


def best_blind(rows: Sequence[ArmRow]) -> ArmRow:
    """The arm that is blind to norms and best on validation; raises ManifoldLoraError where none finished."""
    blind = [row for row in rows if row.role in _BLIND]
    if not blind:
        raise ManifoldLoraError("arms of a null", "no finished arm", "a baseline, gain-matched or norm-blind")
    return max(blind, key=lambda row: row.chosen.validation)


def excesses(rows: Sequence[ArmRow], null: Sequence[ArmRow]) -> list[Excess]:
    """Every comparison of a geometry with a control or the baseline, beside the null's of the same name."""
    theirs = {(row.label, item.test, item.role): item for row in null for item in row.comparisons}
    return [
        Excess(row.label, item, theirs[row.label, item.test, item.role])
        for row in rows
        if row.role == "geometry"
        for item in row.comparisons
        if (row.label, item.test, item.role) in theirs
    ]


def standing(rows: Sequence[ArmRow], found: Sequence[Excess]) -> list[str]:
    """For each claim that the report makes, whether the null leaves it standing: one line each."""
    lines = []
    for row in rows:
        for claim in row.claims:
            if not claim.holds:
                continue
            roles = {item.role for item in claim.hurdles}
            own = [one for one in found if one.arm == row.label and one.real.test == claim.test]
            passed = roles <= {one.real.role for one in own if one.exceeds}
            word = "stands" if passed else "does not stand"
            lines.append(f"{row.label}, {claim.kind} on {claim.test}: {word} against the self-distilled null")
    return lines
