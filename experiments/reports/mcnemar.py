"""Exact McNemar tests of two arms on the items that one of them alone gets right."""

from dataclasses import dataclass

from scipy import stats

from manifold_lora.experiments.reports.statistics import Matrix


@dataclass(frozen=True)
class McNemar:
    """Items that only one of two arms answers right, and the two-sided binomial p of that split.

    Source: McNemar 1947; exact form, Binomial(arm + other, 1/2).
    """

    arm: int
    other: int

    @property
    def p(self) -> float:
        """1 where the two arms never differ."""
        discordant = self.arm + self.other
        return float(stats.binomtest(self.arm, discordant).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class SeedTests:
    """McNemar by training seed, and over all seeds at once.

    Each test of one seed compares two trained models, not two methods: it does not know that another seed
    would have moved both. The pooled one counts every item once a seed as if these were independent, which
    makes its p too small; it is here because papers report it, and no verdict reads it.
    """

    by_seed: dict[int, McNemar]

    @classmethod
    def of(cls, seeds: list[int], arm: Matrix, other: Matrix) -> "SeedTests":
        """From two 0/1 matrices of shape (seeds, items) on the same items."""
        return cls(
            {
                seed: McNemar(int((ours > theirs).sum()), int((theirs > ours).sum()))
                for seed, ours, theirs in zip(seeds, arm, other, strict=True)
            }
        )

    @property
    def pooled(self) -> McNemar:
        """All seeds' discordant items together."""
        tests = self.by_seed.values()
        return McNemar(sum(test.arm for test in tests), sum(test.other for test in tests))
