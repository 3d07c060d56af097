"""Arithmetic over N0, N1, ...: parsed into a tree, rendered, evaluated; no eval, no exec."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

_TOKEN = re.compile(r"\s*(?:(N\d{1,3})|(\d+(?:\.\d+)?|\.\d+)|([-+*/()]))", re.ASCII)
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_MAX_TOKENS, _MAX_DEPTH = 256, 40


@dataclass(frozen=True)
class Quantity:
    """A leaf: the name of a quantity (``"N0"``) or a constant (``"100"``)."""

    text: str


@dataclass(frozen=True)
class Operation:
    """An inner node: ``left operator right``."""

    operator: str
    left: "Equation"
    right: "Equation"


Equation = Union[Quantity, Operation]  # noqa: UP007 (a forward reference needs the named form)


def parse_equation(text: str) -> Equation | None:
    """The tree of an infix expression, or None where it is malformed or absurdly long or deep."""
    tokens = _tokenise(text)
    if not tokens:
        return None
    parser = _Parser(tokens)
    try:
        tree = parser.sum(0)
    except (IndexError, ValueError):
        return None
    return tree if parser.position == len(tokens) else None


def _tokenise(text: str) -> list[str]:
    tokens: list[str] = []
    position, text = 0, text[: 16 * _MAX_TOKENS].strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or len(tokens) == _MAX_TOKENS:
            return []
        tokens.append(match.group(match.lastindex or 0))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over a short token list; every dead end is an IndexError or ValueError."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.position = tokens, 0

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _next(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1]

    def sum(self, depth: int, level: int = 1) -> Equation:
        """Operators of precedence ``level`` and up, grouped from the left."""
        tree = self.sum(depth, level + 1) if level < 2 else self._factor(depth)
        while _PRECEDENCE.get(self._peek()) == level:
            operator = self._next()
            tree = Operation(operator, tree, self.sum(depth, level + 1) if level < 2 else self._factor(depth))
        return tree

    def _factor(self, depth: int) -> Equation:
        token = self._next()
        if depth > _MAX_DEPTH:
            raise ValueError(token)
        if token == "(":
            tree = self.sum(depth + 1)
            if self._next() != ")":
                raise ValueError(token)
            return tree
        if token == "-":
            return Operation("-", Quantity("0"), self._factor(depth + 1))
        if token in "+*/)":
            raise ValueError(token)
        return Quantity(token)


def render_equation(tree: Equation) -> str:
    """Infix text with spaces and the fewest parentheses: ``"( N0 - N1 ) / N2"``."""
    if isinstance(tree, Quantity):
        return tree.text
    level = _PRECEDENCE[tree.operator]
    left = _bracket(tree.left, level)
    right = _bracket(tree.right, level + (tree.operator in "-/"))
    return f"{left} {tree.operator} {right}"


def _bracket(tree: Equation, level: int) -> str:
    text = render_equation(tree)
    return f"( {text} )" if isinstance(tree, Operation) and _PRECEDENCE[tree.operator] < level else text


def quantities(tree: Equation) -> list[str]:
    """The leaves from left to right."""
    if isinstance(tree, Quantity):
        return [tree.text]
    return quantities(tree.left) + quantities(tree.right)


def count_operations(tree: Equation) -> int:
    """How many operators the equation has."""
    return len(quantities(tree)) - 1


def evaluate_equation(text: str, numbers: Sequence[float] = ()) -> float | None:
    """The value of an infix expression over ``numbers`` (N0 is ``numbers[0]``).

    None where it is malformed, names a quantity that is not there, divides by zero or is not finite.
    """
    tree = parse_equation(text)
    value = None if tree is None else _value(tree, numbers)
    return value if value is not None and math.isfinite(value) else None


def _value(tree: Equation, numbers: Sequence[float]) -> float | None:
    if isinstance(tree, Quantity):
        if not tree.text.startswith("N"):
            return float(tree.text)
        index = int(tree.text[1:])
        return numbers[index] if index < len(numbers) else None
    left, right = _value(tree.left, numbers), _value(tree.right, numbers)
    if left is None or right is None or (tree.operator == "/" and right == 0):
        return None
    match tree.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right
