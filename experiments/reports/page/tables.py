"""The tables of the page: every number leads to the result files it was computed from."""

from collections.abc import Callable, Iterator, Sequence

from manifold_lora.experiments.reports.console import DOSES, difference, dose_texts, rate, score_text
from manifold_lora.experiments.reports.costs import TABLE, ratio
from manifold_lora.experiments.reports.groups import GROUPS
from manifold_lora.experiments.reports.page.markup import (
    Html,
    element,
    group,
    join,
    link,
    row,
    signed,
    table,
)
from manifold_lora.experiments.reports.row import ArmRow, Comparison, Record, label_of
from manifold_lora.experiments.reports.statistics import Estimate
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import p_text
from manifold_lora.experiments.results.accuracy import percent


def scores_table(study: Study) -> Html:
    """Accuracy and difference to the baseline by arm, a table per test set."""
    return join(_scores(study, test) for test in study.tests)


def _scores(study: Study, test: str) -> Html:
    head = ["arm", f"{test} %", f"Δ {study.manifest.baseline} [95 %]", "adjusted p", "detectable"]
    head += ["95 % interval", "lr", "validation %"]

    def line(item: ArmRow) -> Html:
        score = item.scores[test]
        chosen = rate(item), _source(item, percent(item.chosen.validation))
        found = _score(study, item, test, score), *_gap(item, test), _source(item, _interval(score))
        return row(item.label, *found, *chosen)

    return table(head, _grouped(study.rows, line, len(head)))


def _score(study: Study, item: ArmRow, test: str, score: Estimate) -> Html:
    seeds = [
        link(
            study.files(record)["result"],
            percent(record["evaluation"][test]["accuracy"]),
            title=f"seed {seed}",
        )
        for seed, record in item.chosen.records.items()
    ]
    return join([_source(item, score_text(score)), element("span", *seeds, cls="seeds")])


def _interval(score: Estimate) -> str:
    return f"{percent(score.low)} to {percent(score.high)}"


def _gap(item: ArmRow, test: str) -> list[object]:
    one = item.with_role(test, "baseline")
    if one is None:
        return ["–", "–", "–"]
    texts = difference(one), p_text(one.p_adjusted), percent(one.detectable)
    return [_source(item, text) for text in texts]


def comparisons_table(study: Study) -> Html:
    """Every comparison of the report, with McNemar's tests of single seeds beside."""
    tests = ["test"] if len(study.tests) > 1 else []
    head = ["arm", "against", *tests, "Δ [95 %]", "p", "adjusted p", "detectable", "alone right"]
    head += ["McNemar p by seed", "pooled"]
    lines = (_comparison(study, item, one) for item in study.rows for one in item.comparisons)
    return element("div", table(head, lines), cls="compared")


def _comparison(study: Study, item: ArmRow, one: Comparison) -> Html:
    gap, pooled = one.difference, one.mcnemar.pooled
    numbers = (
        difference(one),
        p_text(gap.p),
        p_text(one.p_adjusted),
        percent(one.detectable),
        f"{pooled.arm} / {pooled.other}",
        ", ".join(p_text(test.p) for test in one.mcnemar.by_seed.values()),
        p_text(pooled.p),
    )
    names = [one.other, one.test] if len(study.tests) > 1 else [one.other]
    cells = [_source(item, text) for text in numbers]
    return row(item.label, *names, *cells, id=study.place(item.label, one))


def costs_table(study: Study) -> Html:
    """Costs by arm, each with its ratio to the baseline's."""
    head = ["arm", "gain c", "kappa", *DOSES]
    for cost in TABLE:
        head += [cost.heading, "×"]

    def line(item: ArmRow) -> Html:
        cells: list[object] = [
            _source(item, f"{value:.3g}") if value is not None else "–" for value in (item.gain, item.kappa)
        ]
        cells += [_source(item, text) if text else "–" for text in dose_texts(item)]
        for cost in TABLE:
            times = f"{ratio(item, study.rows, cost.key):.2f}"
            cells += [_source(item, cost.text(item)), _source(item, times)]
        return row(item.label, *cells)

    return table(head, _grouped(study.rows, line, len(head)))


def _grouped(rows: Sequence[ArmRow], line: Callable[[ArmRow], Html], width: int) -> Iterator[Html]:
    for place, item in enumerate(rows):
        if not place or item.group != rows[place - 1].group:
            yield group(GROUPS[item.group], width)
        yield line(item)


def cells_table(study: Study) -> Html:
    """Every cell with its files; the chosen ones are marked."""
    chosen = {record["cell"] for item in study.rows for record in item.chosen.records.values()}
    head = [
        "cell",
        "arm",
        "lr",
        "seed",
        "status",
        "validation %",
        *(f"{test} %" for test in study.tests),
        "files",
    ]
    return table(head, (_cell(study, record, record["cell"] in chosen) for record in study.records))


def _cell(study: Study, record: Record, chosen: bool) -> Html:
    train, files = record["run"]["train"], study.files(record)
    evaluation = record.get("evaluation", {})
    accuracies = [
        percent(evaluation[name]["accuracy"]) if name in evaluation else "–"
        for name in ("validation", *study.tests)
    ]
    links = join([element("span", link(path, kind), " ") for kind, path in files.items()])
    return row(
        element("code", record["cell"]),
        element("b", label_of(record)) if chosen else label_of(record),
        f"{train['learning_rate']:g}",
        train["seed"],
        record["status"],
        *accuracies,
        links,
        id=f"cell-{record['cell']}",
    )


def _source(item: ArmRow, text: str) -> Html:
    """A number that leads to the cells it is the mean or median of."""
    cells = [record["cell"] for record in item.chosen.records.values()]
    return link(f"#cell-{cells[0]}", signed(text), title=f"of cells {', '.join(cells)}")
