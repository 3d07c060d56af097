"""Costs as Markdown: what was asked of a section and is met or missed, then a table a place."""

from collections.abc import Collection, Iterator, Sequence

from manifold_lora.experiments.bench.contestants import DORA, OURS
from manifold_lora.experiments.bench.cost import SAVED, Cost, verdict


def section(heading: str, made: str, costs: Sequence[Cost], left_out: Sequence[str] = ()) -> str:
    """A section of the page.

    Args:
        made: by which command, when and on what.
        costs: all figures of the section.
        left_out: lines that say what was not measured, and why.
    """
    parts = [heading, made, *left_out, *summary(costs)]
    for where, dtype in dict.fromkeys((cost.where, cost.dtype) for cost in costs):
        parts += _table([cost for cost in costs if (cost.where, cost.dtype) == (where, dtype)])
    return "\n\n".join(parts) + "\n"


def summary(costs: Sequence[Cost]) -> Iterator[str]:
    """One line a target: its contestant and measurement, the figures over all places, how many are met."""
    asked = dict.fromkeys((c.contestant, c.what, c.asked) for c in costs if c.asked is not None)
    lines = [_target([c for c in costs if (c.contestant, c.what, c.asked) == key]) for key in asked]
    lines += _beaten(costs)
    if lines:
        yield "\n".join(["| what was asked | of | figures here | at most | |", "|---" * 5 + "|", *lines])


def _target(costs: Sequence[Cost]) -> str:
    worst, met = max(costs, key=lambda cost: cost.figure), sum(cost.met for cost in costs)
    form = "{:.0f}" if worst.what == SAVED else "{:.3f}"
    figures = span([cost.figure for cost in costs], form)
    if met == len(costs):
        result = "met"
    else:
        result = f"**missed** in {len(costs) - met} of {len(costs)}, most at {worst.where}, {worst.dtype}"
    unit = " B a token" if worst.what == SAVED else ""
    return f"| {worst.what} | {worst.contestant} | {figures}{unit} | {worst.asked:g} | {result} |"


def span(figures: Collection[float], form: str) -> str:
    """Such as "0.942 to 1.031", or one number."""
    low, high = form.format(min(figures)), form.format(max(figures))
    return high if low == high else f"{low} to {high}"


def _beaten(costs: Sequence[Cost]) -> Iterator[str]:
    """DoRA is to be slower than ours wherever both are timed."""
    for what in dict.fromkeys(cost.what for cost in costs if cost.rounds):
        ratios = {
            name: {(c.where, c.dtype): c.ratio for c in costs if (c.what, c.contestant) == (what, name)}
            for name in (OURS, DORA)
        }
        over = {
            place: ours / ratios[DORA][place] for place, ours in ratios[OURS].items() if place in ratios[DORA]
        }
        if over:
            lost = [f"{where}, {dtype}" for (where, dtype), ratio in over.items() if ratio >= 1]
            result = f"**missed** at {'; '.join(lost)}" if lost else "met"
            figures = f"{span(over.values(), '{:.3f}')} of DoRA"
            yield f"| {what}, DoRA beaten | {OURS} | {figures} | below 1 | {result} |"


def _table(costs: Sequence[Cost]) -> Iterator[str]:
    """Contestants down, measurements across, with the rounds of each."""
    kinds = {cost.what: cost.rounds for cost in costs}
    heads = [f"{what} ({rounds} rounds)" if rounds else what for what, rounds in kinds.items()]
    yield f"### {costs[0].where}, {costs[0].dtype}"
    lines = [f"| contestant | {' | '.join(heads)} |", "|---" * (len(kinds) + 1) + "|"]
    for name in dict.fromkeys(cost.contestant for cost in costs):
        cells = [_cell(cost) for cost in costs if cost.contestant == name]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    yield "\n".join(lines)


def _cell(cost: Cost) -> str:
    if cost.what == SAVED:
        return f"{cost.amount:.0f} {cost.unit}{verdict(cost)}"
    spread = f" [{cost.low:.2f}, {cost.high:.2f}]" if cost.rounds else ""
    return f"{cost.ratio:.3f}{spread} ({cost.amount:.3g} {cost.unit}){verdict(cost)}"
