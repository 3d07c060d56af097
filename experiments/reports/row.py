"""One arm of a report: its runs by learning rate, its scores, and its comparisons with other arms."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from manifold_lora.experiments.reports.groups import Group, Role, group_of, is_plain_lora, part_name
from manifold_lora.experiments.reports.mcnemar import SeedTests
from manifold_lora.experiments.reports.statistics import Estimate

Record = dict[str, Any]


ARM, RATE, SEED = "arm", "train.learning_rate", "train.seed"


COSTS = (
    "train_seconds",
    "tokens_per_second",
    "seconds_per_item",
    "peak_memory_mb",
    "trainable_parameters",
    "adapter_bytes",
    "forgetting",
)


@dataclass(frozen=True)
class Rate:
    """One learning rate of an arm: its records by seed and their mean validation accuracy."""

    value: float
    records: dict[int, Record]

    @property
    def validation(self) -> float:
        """Mean validation accuracy over the seeds."""
        return fmean(record["evaluation"]["validation"]["accuracy"] for record in self.records.values())


@dataclass(frozen=True)
class Comparison:
    """An arm minus another on one test set, same seeds and items.

    ``role`` is the other's: what the comparison is for. ``p_adjusted`` and ``detectable`` (the smallest true
    difference found four times in five) count all ``compare`` tests of their kind: arms against the baseline,
    or claims of geometries; a comparison with a control has no adjusted p of its own, its claim has
    (``Claim``).
    """

    test: str
    other: str
    role: Role
    difference: Estimate
    mcnemar: SeedTests
    p_adjusted: float = float("nan")
    tests: int = 1

    @property
    def detectable(self) -> float:
        """The smallest true difference that this table finds four times in five, after its correction.

        Infinite where not even a difference of all items (1) would be found; NaN where no answer differs.
        """
        size = self.difference.detectable(self.tests)
        return math.inf if size > 1 else size

    @property
    def is_better(self) -> bool:
        """Whether the arm is better at 5 %, uncorrected: one hurdle of a claim."""
        return self.difference.seeds > 1 and self.difference.mean > 0 and self.difference.p < 0.05

    @property
    def is_significant(self) -> bool:
        """Whether the two differ at 5 % after correction; never by one seed, which says nothing of others."""
        return self.difference.seeds > 1 and self.p_adjusted < 0.05

    def significant(self, sign: int) -> bool:
        """Whether the arm is so better (sign 1) or worse (-1) than the other."""
        return self.is_significant and self.difference.mean * sign > 0


@dataclass(frozen=True)
class Dose:
    """The share of an update that no constant gain reproduces, by modules; medians over the seeds.

    ``median``, ``p90`` and ``largest`` are over the modules at the end of training, ``start`` is the median
    before it, ``capped`` the share of tokens beyond the angle limit at the end.
    """

    start: float
    median: float
    p90: float
    largest: float
    capped: float

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Dose | None":
        """That of an arm's runs; None where they have no geometry, or were made before it was measured."""
        doses = [record["geometry"].get("dose") for record in records]
        if not doses or not all(doses):
            return None
        keys = ("median", "p90", "largest", "capped")
        end = {key: median(one["end"][key] for one in doses) for key in keys}
        return cls(start=median(one["start"]["median"] for one in doses), **end)


@dataclass(frozen=True)
class Claim:
    """That an arm is better than each of its hurdles on one test set: p is the largest of theirs.

    Attributes:
        kind: ``"norms"`` (the gain depends on the norm of the token, and that helps) or ``"form"``
            (so does no power law of the norm).
        hurdles: the comparisons, one for each control that is there.
        missing: the roles that the grid has no arm for; nothing can be claimed then.
        p_adjusted: Benjamini-Hochberg over the claims of the same kind of all arms and test sets.
    """

    kind: str
    test: str
    hurdles: tuple[Comparison, ...]
    missing: tuple[Role, ...]
    p_adjusted: float = float("nan")

    @property
    def p(self) -> float:
        """The largest p of the hurdles; 1 where one is missing or the arm is not ahead of it."""
        if self.missing or not self.hurdles:
            return 1.0
        return max(item.difference.p if item.difference.mean > 0 else 1.0 for item in self.hurdles)

    @property
    def holds(self) -> bool:
        """Whether every hurdle is passed at 5 % after correction; never by one seed."""
        return not self.missing and self.p_adjusted < 0.05 and all(one.is_better for one in self.hurdles)

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """The hurdles that the arm is not better than, the worst first."""
        fallen = [item for item in self.hurdles if not item.is_better]
        return tuple(sorted(fallen, key=lambda item: item.difference.mean))


@dataclass(frozen=True)
class ArmRow:
    """One arm of the table: its chosen rate, scores by test set, comparisons, and median costs.

    ``against`` is the label of the baseline row that it is compared with, None for a baseline.
    """

    label: str
    arm: str
    role: Role
    extras: tuple[tuple[str, str], ...]
    chosen: Rate
    rates: tuple[Rate, ...]
    scores: dict[str, Estimate]
    costs: dict[str, float]
    gain: float | None
    kappa: float | None
    dose: "Dose | None"
    at_edge: bool
    against: str | None = None
    comparisons: tuple[Comparison, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def group(self) -> Group:
        """The block of the table that it stands in."""
        return group_of(self.role)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of its first run."""
        run: Mapping[str, Any] = next(iter(self.chosen.records.values()))["run"]
        return run

    @property
    def adapter(self) -> Mapping[str, Any]:
        """The adapter block of these settings."""
        block: Mapping[str, Any] = self.settings.get("adapter", {})
        return block

    @property
    def alpha(self) -> float:
        """LoRA's alpha."""
        return float(self.adapter.get("alpha", 1.0))

    @property
    def norm_scaling(self) -> str:
        """The norm scaling's name, shared by the layers or not."""
        return part_name(self.adapter.get("norm_scaling", "learned"))

    @property
    def is_plain_lora(self) -> bool:
        """Whether the algebra makes it LoRA itself (``groups.is_plain_lora``)."""
        return is_plain_lora(self.adapter)

    def items(self, test: str) -> int:
        """How many items of a test set each seed answered; ``Estimate.items`` counts clusters."""
        record = next(iter(self.chosen.records.values()))
        return int(record["evaluation"][test]["items"])

    def with_role(self, test: str, role: Role) -> Comparison | None:
        """Its comparison with the arm of a role on a test set, if there is one."""
        found = (item for item in self.comparisons if (item.test, item.role) == (test, role))
        return next(found, None)

    def claim(self, kind: str, test: str) -> Claim | None:
        """Its claim of a kind on a test set; geometries alone make claims."""
        return next((claim for claim in self.claims if (claim.kind, claim.test) == (kind, test)), None)


def extras_of(record: Record) -> tuple[tuple[str, str], ...]:
    """The grid values beside arm, rate and seed that set a record apart."""
    skip = {ARM, RATE, SEED}
    return tuple((key, _value_text(value)) for key, value in record["point"].items() if key not in skip)


def _value_text(value: Any) -> str:
    """A grid value as it is shown; of ``{mode: dose, share: 0.1}`` its values alone."""
    return " ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)


def label_of(record: Record) -> str:
    """The arm's name, with the other grid values that set it apart; printable in every report."""
    extras = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in extras_of(record)]
    return printable(" ".join([record["point"]["arm"], *extras]))


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey and a font has no sign for."""
    return "".join(mark if mark.isprintable() else " " if mark.isspace() else "�" for mark in text)
