"""The report as one HTML file, from the template beside this file."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from manifold_lora.experiments.reports import console, costs, verdicts
from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.case_studies import LIMIT, CaseStudy
from manifold_lora.experiments.reports.endpoints import KINDS, Endpoint
from manifold_lora.experiments.reports.figures.canvas import inline
from manifold_lora.experiments.reports.figures.gallery import Picture
from manifold_lora.experiments.reports.groups import GROUPS, ROLES
from manifold_lora.experiments.reports.provenance import Header
from manifold_lora.experiments.reports.row import label_of
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.results.accuracy import percent

STATISTICS = (
    "Each test set is a matrix of seeds × items with 1 where an answer is right. Intervals count seeds "
    "and items both as random: the half-width is √(t²(S−1) V_seeds + t²(I−1) V_items), from the mean "
    "squares of the two-way layout. In simulations it covers 96 to 98 % at 2 to 10 seeds, where a "
    "percentile bootstrap covers 81 to 92 % at three seeds and an interval over items alone 53 to 86 %; "
    "where no arm differs, a table of five such comparisons shows a false discovery in at most 3 %. "
    "Differences are paired: same seeds, same items. Items of one cluster (a question in two orders) count "
    "as one, by their mean. Adjusted p-values are Benjamini and Hochberg's: the "
    "comparisons with the baseline together, the claims of curved arms together, each claim by the "
    "largest p of its hurdles. McNemar's exact test of one seed compares two trained models, not two "
    "methods, and pooled over seeds it counts every item several times as if independent: its p is too "
    "small. It is shown because papers report it; no verdict uses it. Detectable is the difference in "
    "points that would be found significant four times in five, at 5 % shared by all tests of its kind; "
    "none: not even 100 points would be. "
    "The first line of the page gives the largest lead over the baseline that stays possible for any "
    "geometry on any test set, one-sided at 95 % for all of them together, and the smallest lead that one "
    "of these comparisons detects. Alone right counts the answers that one of two arms alone got right. "
    "Learning rates are chosen by validation accuracy alone."
)

# A colour says one thing on the whole page: better or right, worse or wrong, open; what is known has none.
TONES = {
    verdicts.FORM: "good",
    verdicts.NORMS: "good",
    verdicts.BETTER: "good",
    verdicts.WORSE: "bad",
    verdicts.UNKNOWN: "open",
}

# Verdicts that nobody needs to open: nothing was seen.
DULL = (verdicts.UNKNOWN, verdicts.SAME, verdicts.TWIN, verdicts.EQUIVALENT)
# Longer texts are cut on the page, and say so; the items file has them whole.
LONGEST = 1200

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)


def signed(text: str) -> str:
    """Figures with minus signs in place of hyphens; names that hold a hyphen stay."""
    return re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)


def _cut(text: object) -> str:
    whole = str(text)
    more = f" … [{len(whole) - LONGEST} more characters in the items file]"
    return whole if len(whole) <= LONGEST else whole[:LONGEST] + more


def _drawn(picture: Picture) -> Markup:
    return Markup(inline(picture.svg, picture.name, picture.caption.split(":")[0].split(",")[0]))


_TEMPLATES.filters |= {
    "cut": _cut,
    "drawn": _drawn,
    "p_text": verdicts.p_text,
    "percent": percent,
    "signed": signed,
}
_TEMPLATES.globals |= {
    "DOSES": console.DOSES,
    "DULL": DULL,
    "GROUPS": GROUPS,
    "KINDS": KINDS,
    "LEGEND": console.LEGEND,
    "LIMIT": LIMIT,
    "ROLES": ROLES,
    "RULES": verdicts.RULES,
    "STATISTICS": STATISTICS,
    "TABLE": costs.TABLE,
    "TONES": TONES,
    "difference": console.difference,
    "dose_texts": console.dose_texts,
    "label_of": label_of,
    "p_text": verdicts.p_text,
    "rate": console.rate,
    "ratio": costs.ratio,
    "score_text": console.score_text,
}


def page(study: Study, pictures: Sequence[Picture]) -> str:
    """The whole document: no script, nothing fetched; links lead to the result files beside it."""
    settings = study.folder / "ablation.yaml"
    chosen = [(row.label, seed, record) for row in study.rows for seed, record in row.chosen.records.items()]
    return _TEMPLATES.get_template("report.html.j2").render(
        study=study,
        pictures=pictures,
        answer=answer(study.rows),
        readings=_readings(study),
        facts=list(_facts(study.header)),
        chosen={record["cell"] for _, _, record in chosen},
        files={(label, seed): study.files(record)["items"] for label, seed, record in chosen},
        compared=lambda pair: _compared(study, pair),
        endpoint_texts=_endpoint_texts,
        settings=settings.read_text(encoding="utf-8") if settings.is_file() else "",
    )


def _compared(study: Study, pair: CaseStudy) -> str:
    """Where on the page the two arms are compared; further test sets stand in the rows below."""
    row = next(row for row in study.rows if row.label == pair.arm)
    return study.place(row.label, next(item for item in row.comparisons if item.other == pair.other))


def _readings(study: Study) -> dict[str, dict[str, list[Any]]]:
    """Heading -> word -> (row, test, verdict): geometries first, arms of one verdict together."""
    found: dict[str, dict[str, list[Any]]] = {}
    for heading, asked in (("Geometries", True), ("Other arms", False)):
        for row in study.rows:
            for test in study.tests:
                one = verdicts.verdict(row, test, study.rows)
                if one is not None and (row.group == "geometry") == asked:
                    found.setdefault(heading, {}).setdefault(one.word, []).append((row, test, one))
    return found


def _endpoint_texts(one: Endpoint) -> list[str]:
    """The arm's figure, the other's, the difference with its interval, and p."""

    def text(value: float, sign: str = "") -> str:
        return f"{value:{sign}.3f}" if one.kind == "nll" else percent(value, sign)

    gap = one.difference
    interval = f"{text(gap.mean, '+')} [{text(gap.low, '+')}, {text(gap.high, '+')}]"
    return [text(one.value), text(one.other_value), interval, verdicts.p_text(gap.p)]


def _facts(header: Header) -> Iterator[tuple[str, object]]:
    facts: dict[str, object] = {
        "versions": header.packages,
        **{f"sha256 of {name}": " and ".join(map(str, found)) for name, found in header.inputs.items()},
        "rows left out, leaks": "; ".join(
            f"{name}: {' and '.join(map(str, found))}" for name, found in header.notes.items()
        )
        or "none noted",
        "read differently by the two extractors": ", ".join(
            f"{name}: {differ} of {answers}" for name, (differ, answers) in header.disagreements.items()
        ),
        "cut by the token limit": ", ".join(
            f"{name}: {cut} of {answers}" for name, (cut, answers) in header.truncated.items() if cut
        ),
        "resumed from a checkpoint": f"{header.interrupted} cells",
        "checkpoints set aside": "; ".join(header.set_aside),
    }
    return ((name, value) for name, value in facts.items() if value)
