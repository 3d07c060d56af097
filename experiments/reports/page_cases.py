"""Case studies on the page: what two arms wrote for the same item and seed."""

from typing import Any

from manifold_lora.experiments.reports.case_studies import LIMIT, Case, CaseStudy
from manifold_lora.experiments.reports.markup import Html, element, join

# Longer texts are cut on the page, and say so; the items file has them whole.
LONGEST = 1200


def case_section(studies: list[CaseStudy]) -> Html:
    """All pairs, the first of them open."""
    return join([_pair(study, place == 0) for place, study in enumerate(studies)])


def _pair(study: CaseStudy, is_open: bool) -> Html:
    total = (
        f"{study.won} answers that {study.arm} alone got right, {study.lost} that {study.other} alone did, "
        f"of {study.answers} (items × seeds), on {study.items} items. Shown: {len(study.shown)}, at "
        f"most {LIMIT} of each direction, those first that go the same way in the most seeds, then by id."
    )
    cases = [_case(study, case) for case in study.shown]
    heading = element("summary", element("b", f"{study.arm} beside {study.other}"))
    return element("details", heading, element("p", total, cls="note"), *cases, open="" if is_open else None)


def _case(study: CaseStudy, case: Case) -> Html:
    better = study.arm if case.balance > 0 else study.other
    place = ", ".join(part for part in (f"{case.test} {case.id}", case.group) if part)
    told = f"{place}: {better} alone is right in {case.alone(case.balance > 0)} of {len(case.outputs)} seeds"
    sides = [
        side
        for seed, ours, theirs in case.outputs
        for side in (_side(study.arm, seed, ours), _side(study.other, seed, theirs))
    ]
    return element(
        "article",
        element("h4", told),
        element("pre", _cut(case.prompt)),
        element("p", "Answer: ", element("b", _cut(case.answer))),
        element("div", *sides, cls="sides"),
        cls="case",
    )


def _side(arm: str, seed: int, item: dict[str, Any]) -> Html:
    right = bool(item["correct"])
    mark = element("span", "✓ right" if right else "✗ wrong", cls="right" if right else "wrong")
    read = item.get("extracted")
    told = element("span", f" read: {_cut(str(read))}", cls="note") if read is not None else ""
    output = element("pre", _cut(str(item.get("output", ""))) or "(nothing)")
    return element("div", element("b", f"{arm}, seed {seed} "), mark, told, output)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … [{len(text) - LONGEST} more characters in the items file]"
