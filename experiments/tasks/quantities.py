"""The field's number mapping: the numbers of a question become N0, N1, ..."""

import re
from collections.abc import Sequence

from manifold_lora.experiments.answers.equations import (
    Equation,
    Operation,
    Quantity,
    parse_equation,
    render_equation,
)

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<![\w.])\.\d+", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9]+|[^\w\s]")
# What equations may say that questions do not: twice, halves, percent, the one more or less.
CONSTANTS = (1.0, 2.0, 0.01, 100.0)


def map_quantities(question: str) -> tuple[str, tuple[float, ...]]:
    """The question in lower-case words with numbers as N0, N1, ... and the values they stand for."""
    values: list[float] = []

    def name(match: re.Match[str]) -> str:
        values.append(float(match.group().replace(",", "")))
        return f" N{len(values) - 1} "

    parts = _NUMBER.sub(name, question)
    return " ".join(_case(word) for word in _WORD.findall(parts)), tuple(values)


def count_quantities(question: str) -> int:
    """How many numbers a question tells."""
    return len(_NUMBER.findall(question))


def _case(word: str) -> str:
    return word if re.fullmatch(r"N\d+", word) else word.lower()


def map_equation(equation: str, numbers: Sequence[float]) -> str | None:
    """A gold equation (``"X=((27.0-6.0)/7.0)"``) over N0, N1, ...; None where it cannot be said so."""
    sides = [side for side in equation.split("=") if side.strip().lower() != "x"]
    tree = parse_equation(sides[0]) if len(sides) == 1 else None
    if tree is None:
        return None
    unused = list(enumerate(numbers))
    named = _name_leaves(tree, unused, numbers)
    return None if named is None else render_equation(named)


def _name_leaves(
    tree: Equation, unused: list[tuple[int, float]], numbers: Sequence[float]
) -> Equation | None:
    if isinstance(tree, Operation):
        left = _name_leaves(tree.left, unused, numbers)
        right = _name_leaves(tree.right, unused, numbers)
        return None if left is None or right is None else Operation(tree.operator, left, right)
    value = float(tree.text)
    for place, (index, number) in enumerate(unused):
        if number == value:
            del unused[place]
            return Quantity(f"N{index}")
    if value in numbers:
        return Quantity(f"N{list(numbers).index(value)}")
    return Quantity(f"{value:g}") if value in CONSTANTS else None
