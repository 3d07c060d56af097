"""The tables of an ablation on the console: scores, costs, verdicts, and the cells without a result."""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from manifold_lora.experiments.reports.costs import TABLE, ratio
from manifold_lora.experiments.reports.row import ArmRow, Comparison, Record, label_of, printable
from manifold_lora.experiments.reports.statistics import Estimate
from manifold_lora.experiments.reports.verdicts import verdict
from manifold_lora.experiments.results.accuracy import percent


def literal(text: str) -> Text:
    """Text for the console as it is: brackets are no markup, control characters do not reach a terminal."""
    return Text(printable(text))


def score_text(estimate: Estimate) -> str:
    """Mean ± standard deviation over seeds, in %."""
    spread = f" ± {percent(estimate.sd)}" if estimate.seeds > 1 else ""
    return f"{percent(estimate.mean)}{spread}"


def difference(item: Comparison | None) -> str:
    """A difference in points with its interval; * where it is significant."""
    if item is None:
        return "baseline"
    gap, mark = item.difference, "*" if item.is_significant else ""
    return f"{percent(gap.mean, '+')} [{percent(gap.low, '+')}, {percent(gap.high, '+')}]{mark}"


def rate(row: ArmRow) -> str:
    """The chosen learning rate; ^ at the edge of the tried ones."""
    return f"{row.chosen.value:g}{'^' if row.at_edge else ''}"


def score_table(rows: Sequence[ArmRow], title: str) -> Table:
    """Arms by test sets: accuracy in % (mean ± spread over seeds) and paired difference."""
    table = Table(title=literal(title), title_justify="left", header_style="bold")
    table.add_column("arm", no_wrap=True)
    table.add_column("lr", justify="right", no_wrap=True)
    for name in rows[0].scores:
        table.add_column(literal(f"{name} %"), justify="right", no_wrap=True)
        table.add_column(literal(f"Δ {rows[0].label} [95 %]"), justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        if place and row.group != rows[place - 1].group:
            table.add_section()
        cells = [row.label, rate(row)]
        for name, score in row.scores.items():
            cells += [score_text(score), difference(row.with_role(name, "baseline"))]
        table.add_row(*map(literal, cells))
    return table


def dose_texts(row: ArmRow) -> tuple[str, str, str]:
    """Dose at the start and end; 90 % and largest over modules; tokens beyond the angle limit."""
    if row.dose is None:
        return "", "", ""
    some = row.dose
    capped = f"{100 * some.capped:.2g} %"
    return f"{some.start:.2g} > {some.median:.2g}", f"{some.p90:.2g}, {some.largest:.2g}", capped


def cost_table(rows: Sequence[ArmRow]) -> Table:
    """Arms by what they cost: medians over seeds at the chosen rate; × is the ratio to the baseline."""
    table = Table(title="gain and cost", title_justify="left", header_style="bold")
    table.add_column("arm", no_wrap=True)
    first, *others = TABLE
    for name in ("c", *DOSES, first.heading, "×", *(cost.heading for cost in others)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            literal(row.label),
            "" if row.gain is None else f"{row.gain:.3g}",
            *dose_texts(row),
            first.text(row),
            f"{ratio(row, rows, first.key):.2f}",
            *(cost.text(row) for cost in others),
        )
    return table


DOSES = ("dose", "90 %, max", "capped")

LEGEND = (
    "Accuracy: mean ± standard deviation over seeds, each arm at its validation-best learning rate "
    "(^: at the edge of the tried rates). Δ: paired difference in points with a 95 % interval over seeds and "
    "items; *: significant at 5 % after Benjamini-Hochberg, never by one seed. c: median gain |Δh|/|BAx| "
    "over layers. Dose: the share of the update that no constant gain reproduces, before > after training"
    " (median over modules; then their 90 % and largest); capped: tokens beyond the angle limit. "
    "Seconds: CPU time of the cell's process where the model is on the CPU, else time on the wall. "
    "Nats lost: -log p a token of plain text that no training row holds, after adaptation minus before."
)


def verdict_lines(rows: list[ArmRow]) -> Iterator[str]:
    """A sentence for each arm and test set that was compared with a baseline."""
    for row in rows:
        for test in row.scores:
            found = verdict(row, test, rows)
            if found is not None:
                place = f"{row.label}, {test}" if len(row.scores) > 1 else row.label
                yield f"{place}: {found.word} ({found.because})"


def failed_table(records: Iterable[Record]) -> Table | None:
    """The cells without a number and why, or None where every cell finished."""
    failed = [record for record in records if record["status"] != "ok"]
    if not failed:
        return None
    table = Table(title="cells without a result", title_justify="left", header_style="bold red")
    for name in ("cell", "arm", "lr", "seed", "status", "reason"):
        table.add_column(name, overflow="fold")
    for record in failed:
        train = record["run"]["train"]
        table.add_row(
            record["cell"],
            literal(label_of(record)),
            f"{train['learning_rate']:g}",
            str(train["seed"]),
            record["status"],
            literal(record["reason"]),
        )
    return table
