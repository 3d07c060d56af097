"""What may be said of an arm, in words, by rules that the report states."""

from dataclasses import dataclass

from manifold_lora.experiments.reports.groups import Role
from manifold_lora.experiments.reports.row import Comparison, Row

MATTERED = "geometry mattered"
ONLY_GAIN = "it was only gain"
GAIN_OPEN = "better, but gain is not ruled out"
LINEAR_OPEN = "better, but a linear arm does as well"
BIAS_OPEN = "better, but a bias does as well"
BETTER = "better than the baseline"
WORSE = "worse than the baseline"
SAME = "the same answers as the baseline"
UNKNOWN = "cannot tell with this much data"

RULES: tuple[tuple[str, str], ...] = (
    (
        MATTERED,
        "a geometry beats the baseline, gain-matched LoRA and tangent (boost also LoRA with a bias), each "
        "significant at 5 % after Benjamini-Hochberg correction over all comparisons of this report",
    ),
    (
        ONLY_GAIN,
        "it beats the baseline, so does gain-matched LoRA, and it does not beat gain-matched LoRA: a larger "
        "step explains what there is to explain",
    ),
    (
        GAIN_OPEN,
        "it beats the baseline but not gain-matched LoRA, which is not shown to beat the baseline itself; or "
        "the grid has no gain-matched LoRA, or a single seed of it",
    ),
    (
        LINEAR_OPEN,
        "it beats the baseline and gain-matched LoRA but not tangent, which is LoRA by another road; or the "
        "grid has no tangent",
    ),
    (
        BIAS_OPEN,
        "boost beats all of these but not LoRA with a bias, which its time column nearly is; or the grid has "
        "no such LoRA",
    ),
    (BETTER, "said of arms that claim no geometry"),
    (WORSE, "significantly below the baseline after correction"),
    (SAME, "right and wrong on the same items in every seed"),
    (
        UNKNOWN,
        "none of these, or a single seed, from which nothing follows for another one; the smallest "
        "detectable difference is what four studies in five would find significant at 5 %, before correction",
    ),
)


@dataclass(frozen=True)
class Remark:
    """A part of a verdict's reason, and the comparison of an arm that its figures are of, if it has any."""

    text: str
    arm: str = ""
    about: Comparison | None = None


@dataclass(frozen=True)
class Verdict:
    """One of the words above, and the figures that it follows from."""

    word: str
    remarks: tuple[Remark, ...]

    @property
    def because(self) -> str:
        """The reason as a line."""
        return "; ".join(remark.text for remark in self.remarks)


def verdict(row: Row, test: str, rows: list[Row]) -> Verdict | None:
    """The verdict on an arm by one test set; None for a baseline, which is compared with nothing."""
    base = row.with_role(test, "baseline")
    if base is None:
        return None
    pooled = base.mcnemar.pooled
    if pooled.arm + pooled.other == 0:
        answers = base.difference.seeds * base.difference.items
        told = f"all {answers} answers are right or wrong together with those of {base.other}"
        return Verdict(SAME, (Remark(told, row.label, base),))
    if base.difference.seeds < 2:
        return Verdict(UNKNOWN, (Remark("one seed"), _figure(row, base)))
    if base.significant(-1):
        return Verdict(WORSE, (_figure(row, base),))
    if not base.significant(1):
        return Verdict(UNKNOWN, (_undecided(row, base),))
    if row.role != "geometry":
        return Verdict(BETTER, (_figure(row, base),))
    return _of_better_geometry(row, test, rows, base)


def _of_better_geometry(row: Row, test: str, rows: list[Row], base: Comparison) -> Verdict:
    remarks: tuple[Remark, ...] = (_figure(row, base),)
    gain = row.with_role(test, "gain")
    if gain is None:
        return Verdict(GAIN_OPEN, (*remarks, Remark("no gain-matched LoRA in the grid")))
    if not gain.significant(1):
        return _of_gain(row, test, rows, gain, remarks)
    remarks = (*remarks, _figure(row, gain))
    hurdles: list[tuple[Role, str, str]] = [("tangent", LINEAR_OPEN, "no tangent in the grid")]
    if row.adapter.get("transform") == "boost":
        hurdles.append(("bias", BIAS_OPEN, "no LoRA with a bias in the grid"))
    for role, word, missing in hurdles:
        item = row.with_role(test, role)
        if item is None or not item.significant(1):
            return Verdict(word, (*remarks, Remark(missing) if item is None else _undecided(row, item)))
        remarks = (*remarks, _figure(row, item))
    norms = row.with_role(test, "norms")
    if norms is not None and not norms.significant(1):
        remarks = (*remarks, _undecided(row, norms))
    return Verdict(MATTERED, remarks)


def _of_gain(row: Row, test: str, rows: list[Row], gain: Comparison, remarks: tuple[Remark, ...]) -> Verdict:
    """Of a geometry that beats the baseline and not its gain-matched LoRA."""
    control = next(other for other in rows if other.label == gain.other)
    own = control.with_role(test, "baseline")
    remarks = (*remarks, _undecided(row, gain))
    if own is not None:
        told = f"{control.label} itself: {_figure_text(own)}"
        remarks = (*remarks, Remark(told, control.label, own))
    explained = gain.difference.seeds > 1 and own is not None and own.significant(1)
    return Verdict(ONLY_GAIN if explained else GAIN_OPEN, remarks)


def _figure(row: Row, item: Comparison) -> Remark:
    return Remark(_figure_text(item), row.label, item)


def _undecided(row: Row, item: Comparison) -> Remark:
    smallest = f"smallest detectable difference {100 * item.difference.detectable:.1f}"
    return Remark(f"{_figure_text(item)}, {smallest}", row.label, item)


def _figure_text(item: Comparison) -> str:
    gap = item.difference
    interval = f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    return f"{100 * gap.mean:+.1f} {interval} points to {item.other} (adjusted p {p_text(item.p_adjusted)})"


def p_text(p: float) -> str:
    """A p-value for people."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
