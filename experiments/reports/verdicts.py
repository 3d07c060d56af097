"""What may be said of an arm, in words, by rules that the report states."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lora.experiments.reports.groups import ROLES, Role
from manifold_lora.experiments.reports.row import ArmRow, Claim, Comparison
from manifold_lora.experiments.results.accuracy import percent

# Accuracies closer than this are called the same where the data can show it.
MARGIN = 0.01

FORM = "hyperbolic form"
NORMS = "norm-dependent gain"
SATURATION = "saturation"
ONLY_GAIN = "only gain"
BIAS = "a bias"
FACTORS = "only three factors"
BETTER = "better than the baseline"
WORSE = "worse than the baseline"
EQUIVALENT = "no effect above 1 point"
SAME = "the same answers as the baseline"
TWIN = "LoRA by another road"
UNKNOWN = "cannot tell"

# In place of a difference of more than all items.
NONE_SHOWN = "none: not even 100 points would have been shown"

RULES: tuple[tuple[str, str], ...] = (
    (
        NORMS,
        "a curved arm is better than LoRA, than LoRA of its median gain and than the norm-blind arm "
        "(boost also than LoRA with a bias and than boost with its time frozen), each at p < 0.05; the "
        "largest of these p is Benjamini-Hochberg adjusted over the curved arms and test sets of this "
        "report and is below 0.05. It says that a gain which depends on the norm of the token helps, not "
        "that curvature does",
    ),
    (
        FORM,
        "it is also better than both saturating power laws of the norm, adjusted likewise: no other "
        "dependence on the norm at hand does as well. No rule reached 80 % power for this with at most 5 "
        "% errors, so expect it almost never",
    ),
    (
        SATURATION,
        "it is better than LoRA and than LoRA of its gain, so is the norm-blind arm better than LoRA, and"
        " it is not better than the norm-blind arm: that long updates grow slowly explains what there is "
        "to explain",
    ),
    (
        ONLY_GAIN,
        "it is better than LoRA, so is LoRA of its gain, and it is not better than LoRA of its gain: a "
        "larger step explains it",
    ),
    (
        BIAS,
        "boost is better than LoRA, so is LoRA with a bias or boost with its time frozen, and boost is "
        "not better than that",
    ),
    (
        FACTORS,
        "weights on a manifold are better than LoRA, so are the three free factors, and they are not better "
        "than these: the constraint explains nothing",
    ),
    (
        EQUIVALENT,
        "two one-sided tests put the difference to the best control that is blind to norms (LoRA, gain-"
        "matched, norm-blind; the best on validation) within 1 point, at 5 % shared by all arms",
    ),
    (BETTER, "said of arms that claim no dependence on the norm"),
    (WORSE, "significantly below the baseline after correction"),
    (SAME, "right and wrong on the same items in every seed"),
    (TWIN, "the algebra makes the arm LoRA; what differs is rounding, and no correction counts it"),
    (
        UNKNOWN,
        "none of these, a control is missing, or a single seed, from which nothing follows for another "
        "one; the smallest detectable difference is what four studies in five of this size would find "
        "after this table's own correction",
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


def verdict(row: ArmRow, test: str, rows: Sequence[ArmRow]) -> Verdict | None:
    """The verdict on an arm by one test set; None for a baseline, which is compared with nothing."""
    base = row.with_role(test, "baseline")
    if base is None:
        return None
    pooled = base.mcnemar.pooled
    if pooled.arm + pooled.other == 0:
        answers = base.difference.seeds * row.items(test)
        text = f"all {answers} answers are right or wrong together with those of {base.other}"
        return Verdict(SAME, (Remark(text, row.label, base),))
    if row.is_plain_lora:
        return Verdict(TWIN, (_figure(row, base),))
    if base.difference.seeds < 2:
        return Verdict(UNKNOWN, (Remark("one seed"), _figure(row, base)))
    if base.significant(-1):
        return Verdict(WORSE, (_figure(row, base),))
    if row.role == "geometry":
        return _of_geometry(row, test, rows, base)
    if base.significant(1):
        return _explained(row, test, rows, base) or Verdict(BETTER, (_figure(row, base),))
    return _undecided(row, test, rows, base)


def _of_geometry(row: ArmRow, test: str, rows: Sequence[ArmRow], base: Comparison) -> Verdict:
    norms, form = row.claim("norms", test), row.claim("form", test)
    if form is not None and form.holds:
        return Verdict(FORM, _claimed(row, form))
    if norms is not None and norms.holds:
        return Verdict(NORMS, (*_claimed(row, norms), *_missing(form, norms)))
    explained = _explained(row, test, rows, base)
    if explained is not None:
        return explained
    rest = _undecided(row, test, rows, base)
    return Verdict(rest.word, (*rest.remarks, *(_missing(norms) if rest.word == UNKNOWN else ())))


def _explained(row: ArmRow, test: str, rows: Sequence[ArmRow], base: Comparison) -> Verdict | None:
    """The verdict that names a control which is better than the baseline too and not beaten by the arm."""
    if not base.significant(1):
        return None
    kinds: tuple[tuple[Role, str], ...] = (
        ("gain", ONLY_GAIN),
        ("bias", BIAS),
        ("frozen", BIAS),
        ("factors", FACTORS),
        ("blind", SATURATION),
    )
    for role, word in kinds:
        item = row.with_role(test, role)
        if item is None or item.is_better:
            continue
        control = next(other for other in rows if other.label == item.other)
        own = control.with_role(test, "baseline")
        if own is not None and own.significant(1):
            beside = Remark(f"{control.label} itself: {_figure_text(own)}", control.label, own)
            return Verdict(word, (_figure(row, base), _figure(row, item), beside))
        return None
    return None


def _undecided(row: ArmRow, test: str, rows: Sequence[ArmRow], base: Comparison) -> Verdict:
    """Equivalent to the best norm-blind control, or nothing that this much data can tell."""
    best = _best_blind(row, test, rows) or base
    if best.difference.seeds > 1 and best.difference.p_within(MARGIN) * base.tests < 0.05:
        p = best.difference.p_within(MARGIN)
        return Verdict(
            EQUIVALENT, (Remark(f"{_figure_text(best)}, within 1 point: p {p_text(p)}", row.label, best),)
        )
    claim = row.claim("norms", test)
    hurdle = next(iter(claim.failed), best) if claim is not None else best
    size = NONE_SHOWN if math.isinf(hurdle.detectable) else percent(hurdle.detectable)
    return Verdict(
        UNKNOWN,
        (Remark(f"{_figure_text(hurdle)}, smallest detectable difference {size}", row.label, hurdle),),
    )


def _best_blind(row: ArmRow, test: str, rows: Sequence[ArmRow]) -> Comparison | None:
    """The comparison with the control blind to norms that is best on validation, whatever the test says."""
    found = [row.with_role(test, role) for role in ("baseline", "gain", "blind")]
    validation = {other.label: other.chosen.validation for other in rows}
    return max(
        (item for item in found if item is not None), key=lambda item: validation[item.other], default=None
    )


def _claimed(row: ArmRow, claim: Claim) -> tuple[Remark, ...]:
    head = Remark(f"every hurdle passed, adjusted p {p_text(claim.p_adjusted)}")
    return (head, *(_figure(row, item) for item in claim.hurdles))


def _missing(*claims: Claim | None) -> tuple[Remark, ...]:
    roles = dict.fromkeys(role for claim in claims if claim is not None for role in claim.missing)
    return tuple(Remark(f"no {role} arm in the grid ({ROLES[role].split(':')[0]})") for role in roles)


def _figure(row: ArmRow, item: Comparison) -> Remark:
    return Remark(_figure_text(item), row.label, item)


def _figure_text(item: Comparison) -> str:
    gap = item.difference
    interval = f"[{percent(gap.low, '+')}, {percent(gap.high, '+')}]"
    p = (
        f"adjusted p {p_text(item.p_adjusted)}"
        if item.p_adjusted == item.p_adjusted
        else f"p {p_text(gap.p)}"
    )
    return f"{percent(gap.mean, '+')} {interval} points to {item.other} ({p})"


def p_text(p: float) -> str:
    """A p-value for people; a dash where there is none."""
    if p != p:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
