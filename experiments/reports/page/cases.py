"""Case studies on the page: what two arms wrote for the same item and seed."""

from typing import Any

from manifold_lora.experiments.reports.case_studies import LIMIT, Case, CaseStudy
from manifold_lora.experiments.reports.page.markup import Html, element, join, link
from manifold_lora.experiments.reports.study import Study

# Longer texts are cut on the page, and say so; the items file has them whole.
LONGEST = 1200


# Arm and seed -> address of the items file.
Files = dict[tuple[str, int], str]


def case_section(study: Study) -> Html:
    """All pairs, the first of them open."""
    files: Files = {
        (row.label, seed): study.files(record)["items"]
        for row in study.rows
        for seed, record in row.chosen.records.items()
    }
    return join(
        _pair(pair, _compared(study, pair), files, place == 0) for place, pair in enumerate(study.cases())
    )


def _compared(study: Study, pair: CaseStudy) -> str:
    """Where on the page the two arms are compared; further test sets stand in the rows below."""
    row = next(row for row in study.rows if row.label == pair.arm)
    return study.place(row.label, next(item for item in row.comparisons if item.other == pair.other))


def _pair(study: CaseStudy, compared: str, files: Files, is_open: bool) -> Html:
    counts = (
        f"{study.won} answers that {study.arm} alone got right, {study.lost} that {study.other} alone did, "
        f"of {study.answers} (items × seeds), on {study.items} items."
    )
    which = (
        f" Shown: {len(study.shown)}, at most {LIMIT} of each direction, those first that go the same way in "
        "the most seeds, then by id. An arm's seed leads to the file of all its items."
    )
    total = join([link(f"#{compared}", counts, cls="figure"), which])
    cases = [_case(study, case, files) for case in study.shown]
    heading = element("summary", element("b", f"{study.arm} beside {study.other}"))
    return element("details", heading, element("p", total, cls="note"), *cases, open="" if is_open else None)


def _case(study: CaseStudy, case: Case, files: Files) -> Html:
    better = study.arm if case.balance > 0 else study.other
    place = ", ".join(part for part in (f"{case.test} {case.id}", case.group) if part)
    heading = (
        f"{place}: {better} alone is right in {case.alone(case.balance > 0)} of {len(case.outputs)} seeds"
    )
    sides = [
        _side(link(files[arm, seed], f"{arm}, seed {seed}"), item)
        for seed, ours, theirs in case.outputs
        for arm, item in ((study.arm, ours), (study.other, theirs))
    ]
    return element(
        "article",
        element("h4", heading),
        element("pre", _cut(case.prompt)),
        element("p", "Answer: ", element("b", _cut(case.answer))),
        element("div", *sides, cls="sides"),
        cls="case",
    )


def _side(name: Html, item: dict[str, Any]) -> Html:
    right = bool(item["correct"])
    mark = element("span", "✓ right" if right else "✗ wrong", cls="right" if right else "wrong")
    read = item.get("extracted")
    understood = element("span", f" read: {_cut(str(read))}", cls="note") if read is not None else ""
    output = element("pre", _cut(str(item.get("output", ""))) or "(nothing)")
    return element("div", element("b", name, " "), mark, understood, output)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … [{len(text) - LONGEST} more characters in the items file]"
