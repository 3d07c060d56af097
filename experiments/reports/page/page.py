"""The report as one HTML file: no script, nothing fetched; links lead to the result files beside it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.console import LEGEND
from manifold_lora.experiments.reports.figures.canvas import inline
from manifold_lora.experiments.reports.figures.gallery import Picture
from manifold_lora.experiments.reports.groups import ROLES
from manifold_lora.experiments.reports.page.cases import case_section
from manifold_lora.experiments.reports.page.endpoints import endpoints_section
from manifold_lora.experiments.reports.page.markup import Html, element, join, link, row, signed, table
from manifold_lora.experiments.reports.page.style import CSS
from manifold_lora.experiments.reports.page.tables import (
    cells_table,
    comparisons_table,
    costs_table,
    scores_table,
)
from manifold_lora.experiments.reports.row import ArmRow, label_of
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import (
    BETTER,
    EQUIVALENT,
    FORM,
    NORMS,
    RULES,
    SAME,
    TWIN,
    UNKNOWN,
    WORSE,
    Remark,
    Verdict,
    verdict,
)

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
    "points that would be found significant four times in five, at 5 % shared by all tests of its kind. "
    "The first line of the page gives the largest lead over the baseline that stays possible for any "
    "geometry on any test set, one-sided at 95 % for all of them together, and the smallest lead that one "
    "of these comparisons detects. Alone right counts the answers that one of two arms alone got right. "
    "Learning rates are chosen by validation accuracy alone."
)

# A colour says one thing on the whole page: better or right, worse or wrong, open; what is known has none.
TONES = {FORM: "good", NORMS: "good", BETTER: "good", WORSE: "bad", UNKNOWN: "open"}


def page(study: Study, pictures: Sequence[Picture]) -> str:
    """The whole document."""
    sections = [
        ("reading", "Reading", _reading(study)),
        ("scores", "Accuracy", join([scores_table(study), element("p", LEGEND, cls="note")])),
        ("figures", "Figures", _figures(pictures)),
        ("comparisons", "Comparisons", comparisons_table(study)),
        ("endpoints", "Endpoints", endpoints_section(study)),
        ("costs", "Cost", costs_table(study)),
        ("cases", "Case studies", case_section(study)),
        ("method", "How it was computed", _method()),
    ]
    shown = [*(sections if study.rows else ()), ("origin", "Origin", _origin(study))]
    nav = element("nav", *(join([link(f"#{name}", title), " "]) for name, title, _ in shown))
    body = [
        element("section", element("h2", title), content, id=name)
        for name, title, content in shown
        if content
    ]
    head = join(
        [
            Html(
                '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            ),
            element("title", study.title),
            element("style", Html(CSS)),
        ]
    )
    top = element(
        "header", element("h1", f"{study.manifest.task}: an ablation"), _answer(study), _lead(study), nav
    )
    document = element("html", element("head", head), element("body", top, element("main", *body)), lang="en")
    return f"<!doctype html>\n{document}\n"


def _answer(study: Study) -> Html:
    found = answer(study.rows)
    if found is None:
        return Html("")
    text: str = signed(found.text)
    if found.about is not None:
        text = link(f"#{study.place(found.arm, found.about)}", text)
    tone = "good" if found.is_found else "open" if found.text.startswith("Cannot tell") else "known"
    return element("p", text, cls=f"answer {tone}")


def _lead(study: Study) -> Html:
    header = study.header
    seeds = f" {len(study.rows[0].chosen.records)} seeds." if study.rows else ""
    sets = "".join(_counted(study.rows[0], name) for name in study.rows[0].scores) if study.rows else ""
    cells = link("#origin", f"{header.total} cells: {header.ended}.")
    text = element("p", cells, f" Baseline: {study.manifest.baseline}.{seeds}{sets}", cls="lead")
    read = "; ".join(f"{name} {_short(hashes)}" for name, hashes in header.inputs.items())
    data = [element("p", "Data (sha256): ", link("#origin", read), ".", cls="lead")] if read else []
    versions = [element("p", f"Versions: {header.packages}.", cls="lead")] if header.versions else []
    return join([text, *data, *versions])


def _counted(first: ArmRow, test: str) -> str:
    items, clusters = first.items(test), first.scores[test].items
    return f" {items} {test} items{f' in {clusters} clusters' if clusters < items else ''}."


def _short(hashes: Sequence[str]) -> str:
    """Hashes as far as they tell files apart; the page has them whole at its end."""
    return " and ".join(text[:12] for text in map(str, hashes))


def _reading(study: Study) -> Html:
    """Verdicts, geometries first; arms of one verdict fold into a line that opens."""
    found = [(item, test, verdict(item, test, study.rows)) for item in study.rows for test in study.tests]
    said = [(item, test, one) for item, test, one in found if one is not None]
    if not said:
        return element("p", "Nothing was compared with a baseline.", cls="note")
    parts = [element("p", link("#method", "The rules"), " by which these words are given.", cls="note")]
    for heading, asked in (("Geometries", True), ("Other arms", False)):
        groups: dict[str, list[tuple[ArmRow, str, Verdict]]] = defaultdict(list)
        for item, test, one in said:
            if (item.group == "geometry") == asked:
                groups[one.word].append((item, test, one))
        parts += [element("h3", heading)] if groups else []
        parts += [_folded(study, word, members) for word, members in groups.items()]
    return element("div", *parts, cls="reading")


def _folded(study: Study, word: str, members: Sequence[tuple[ArmRow, str, Verdict]]) -> Html:
    """One verdict and its arms; open where it says more than that nothing was seen, or of one arm alone."""
    lines = [
        _verdict(study, item.label if len(study.tests) == 1 else f"{item.label}, {test}", one)
        for item, test, one in members
    ]
    names = ", ".join(dict.fromkeys(item.label for item, _, _ in members))
    summary = element("summary", _word(word), f"{len(members)} × ", element("span", names, cls="note"))
    is_open = word not in (UNKNOWN, SAME, TWIN, EQUIVALENT) or len(members) == 1
    return element("details", summary, element("ul", *lines, cls="verdicts"), open="" if is_open else None)


def _word(word: str) -> Html:
    return element("span", word, cls=f"word {TONES.get(word, 'known')}")


def _verdict(study: Study, name: str, found: Verdict) -> Html:
    reason = join(
        part
        for place, remark in enumerate(found.remarks)
        for part in ("; " if place else "", _remark(study, remark))
    )
    return element("li", element("span", name, cls="arm"), element("p", reason, cls="note"))


def _remark(study: Study, remark: Remark) -> str:
    if remark.about is None:
        return signed(remark.text)
    return link(f"#{study.place(remark.arm, remark.about)}", signed(remark.text), cls="figure")


def _figures(pictures: Sequence[Picture]) -> Html:
    drawn = [
        element(
            "figure",
            Html(inline(picture.svg, picture.name, picture.caption.split(":")[0].split(",")[0])),
            element("figcaption", picture.caption),
        )
        for picture in pictures
    ]
    return element("div", *drawn, cls="figures")


def _method() -> Html:
    rules = [part for word, rule in RULES for part in (element("dt", word), element("dd", rule))]
    roles = [part for role, what in ROLES.items() for part in (element("dt", role), element("dd", what))]
    return join(
        [
            element("p", STATISTICS),
            element("h3", "Verdicts"),
            element("dl", *rules),
            element("h3", "What arms are there for"),
            element("dl", *roles),
        ]
    )


def _origin(study: Study) -> Html:
    parts = [element("h3", "Cells without a result"), _unfinished(study)] if study.unfinished else []
    parts += [element("dl", *_facts(study))]
    parts += [element("details", element("summary", "Every cell and its files"), cells_table(study), open="")]
    settings = study.folder / "ablation.yaml"
    if settings.is_file():
        text = Path(settings).read_text(encoding="utf-8")
        parts += [element("details", element("summary", "Settings"), element("pre", text))]
    return join(parts)


def _unfinished(study: Study) -> Html:
    lines = (
        row(label_of(record), record["cell"], record["status"], record["reason"])
        for record in study.unfinished
    )
    return element("div", table(["arm", "cell", "status", "reason"], lines), cls="wide")


def _facts(study: Study) -> Iterator[Html]:
    header = study.header
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
    for name, value in facts.items():
        if value:
            yield element("dt", name)
            yield element("dd", value)
