"""The tables of a report for a paper: LaTeX with booktabs."""

from collections.abc import Callable, Iterator, Sequence

from manifold_lora.experiments.reports.costs import TABLE, ratio
from manifold_lora.experiments.reports.groups import GROUPS
from manifold_lora.experiments.reports.row import ArmRow, Comparison
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.results.accuracy import percent

# Ten columns of costs in a column of text.
_TIGHT = r"\footnotesize\setlength{\tabcolsep}{3pt}"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # Other signs in LaTeX's own fonts.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(mark, mark) for mark in text)


def latex(study: Study) -> str:
    """Scores and costs as two floats; ``\\usepackage{booktabs}`` is all they need."""
    return "\n\n".join([_scores(study), _costs(study)]) + "\n"


def _scores(study: Study) -> str:
    head = ["Arm", "lr"]
    for test in study.tests:
        head += [rf"{escape(test)} (\%)", r"$\Delta$ [95\,\% CI]"]
    lead, test = study.rows[0], study.tests[0]
    seeds, items = lead.scores[test].seeds, lead.items(test)
    task, first, base = (
        escape(name) for name in (study.manifest.task, study.rows[0].label, study.manifest.baseline)
    )
    caption = (
        rf"{task}: accuracy (mean $\pm$ standard deviation over seeds; {seeds} seeds, {items} "
        rf"items for {first}) with each arm at its validation-best learning rate, and paired difference to "
        rf"{base} in points with a 95\,\% interval over seeds and items. $^{{*}}$: significant at 5\,\% "
        "after Benjamini--Hochberg over all comparisons of the report, never by one seed."
    )
    lines = _grouped(study.rows, len(head), _score_cells)
    return _float(caption, "tab:scores", "ll" + "rr" * len(study.tests), head, lines)


def _score_cells(row: ArmRow) -> list[str]:
    cells = [escape(row.label), _number(row.chosen.value)]
    for test, score in row.scores.items():
        spread = rf" $\pm$ {percent(score.sd)}" if score.seeds > 1 else ""
        item = row.with_role(test, "baseline")
        cells += [f"{percent(score.mean)}{spread}", _gap(item) if item else "--"]
    return cells


def _gap(item: Comparison) -> str:
    gap, mark = item.difference, "^{*}" if item.is_significant else ""
    return f"${percent(gap.mean, '+')}{mark}$ [${percent(gap.low, '+')}$, ${percent(gap.high, '+')}$]"


def _number(value: float) -> str:
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$" if exponent else mantissa


def _costs(study: Study) -> str:
    head = ["Arm", "$c$", *(escape(cost.heading) for cost in TABLE), r"train $\times$"]

    def cells(row: ArmRow) -> list[str]:
        gain = "--" if row.gain is None else f"{row.gain:.3g}"
        times = f"{ratio(row, study.rows, 'train_seconds'):.2f}"
        return [escape(row.label), gain, *(cost.text(row) or "--" for cost in TABLE), times]

    caption = (
        r"Mean gain $c = |\Delta h| / |BAx|$ and costs, medians over seeds at the chosen learning rate; "
        r"train $\times$ is the ratio to the baseline. Nats lost: how much less likely text that no training "
        "row holds became, a token."
    )
    lines = _grouped(study.rows, len(head), cells)
    return _float(caption, "tab:costs", "l" + "r" * (len(head) - 1), head, lines, _TIGHT)


def _grouped(rows: Sequence[ArmRow], width: int, cells: Callable[[ArmRow], list[str]]) -> Iterator[str]:
    for place, row in enumerate(rows):
        if not place or row.group != rows[place - 1].group:
            yield r"\midrule"
            yield rf"\multicolumn{{{width}}}{{l}}{{\textit{{{GROUPS[row.group]}}}}} \\"
        yield " & ".join(cells(row)) + r" \\"


def _float(
    caption: str, label: str, columns: str, head: list[str], lines: Iterator[str], size: str = r"\small"
) -> str:
    return "\n".join(
        [
            r"\begin{table}[t]",
            rf"\centering{size}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
