"""Comparisons by other measures than accuracy at the chosen rate, as a table of the page."""

from manifold_lora.experiments.reports.endpoints import KINDS, Endpoint
from manifold_lora.experiments.reports.page.markup import Html, element, join, link, row, signed, table
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import p_text
from manifold_lora.experiments.results.accuracy import percent


def endpoints_section(study: Study) -> Html:
    """The table and what its measures are."""
    head = ["arm", "against", "test", "by", "arm", "other", "Δ [95 %]", "p"]
    meanings = [part for kind, what in KINDS.items() for part in (element("dt", kind), element("dd", what))]
    lines = (_line(study, one) for one in study.endpoints)
    return join([element("div", table(head, lines), cls="compared"), element("dl", *meanings)])


def _line(study: Study, one: Endpoint) -> Html:
    gap = one.difference

    def text(value: float, sign: str = "") -> str:
        return f"{value:{sign}.3f}" if one.kind == "nll" else percent(value, sign)

    interval = f"{text(gap.mean, '+')} [{text(gap.low, '+')}, {text(gap.high, '+')}]"
    place = f"#{study.place(one.arm, one.about)}"
    numbers = text(one.value), text(one.other_value), interval, p_text(gap.p)
    names = one.about.other, one.about.test, one.kind
    return row(one.arm, *names, *(link(place, signed(number)) for number in numbers))
