"""Equations: parsed, rendered and evaluated without eval, any text answered."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.experiments.answers.equations import (
    Equation,
    Operation,
    Quantity,
    count_operations,
    evaluate_equation,
    parse_equation,
    quantities,
    render_equation,
)

LEAVES = st.sampled_from([Quantity("N0"), Quantity("N1"), Quantity("N2"), Quantity("2")])
TREES = st.recursive(
    LEAVES, lambda inner: st.builds(Operation, st.sampled_from("+-*/"), inner, inner), max_leaves=12
)
NUMBERS = (7, 3, 5)


def exact(tree: Equation) -> Fraction:
    """The oracle: rational arithmetic on the tree."""
    if isinstance(tree, Quantity):
        return Fraction(NUMBERS[int(tree.text[1:])]) if tree.text.startswith("N") else Fraction(tree.text)
    left, right = exact(tree.left), exact(tree.right)
    return {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
    }[tree.operator]()


@given(TREES)
def test_rendering_keeps_the_value(tree: Equation) -> None:
    try:
        expected = float(exact(tree))
    except ZeroDivisionError:
        return
    value = evaluate_equation(render_equation(tree), NUMBERS)
    # None: floats may meet a zero that fractions do not, and the other way round.
    assert value is None or value == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(TREES)
def test_rendering_is_parsed_back_to_the_same_text(tree: Equation) -> None:
    text = render_equation(tree)
    parsed = parse_equation(text)
    assert parsed is not None
    assert render_equation(parsed) == text
    assert quantities(parsed) == quantities(tree)
    assert count_operations(parsed) == count_operations(tree)


@given(st.text(alphabet="N0123456789+-*/() .x") | st.text())
def test_any_text_is_a_finite_value_or_none(text: str) -> None:
    value = evaluate_equation(text, NUMBERS)
    assert value is None or math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("N0 + N1 * N2", 22),
        ("( N0 + N1 ) * N2", 50),
        ("N0 - N1 - N2", -1),
        ("N0 / N1 / N2", 7 / 15),
        ("-N0 + 2", -5),
        ("14.0--10.0", 24),
        ("4+-32.0", -28),
        (".01*N0", 0.07),
        ("N3", None),
        ("N0 N1", None),
        ("N0 +", None),
        ("( N0", None),
        ("N0 )", None),
        ("N0 / ( N1 - N1 )", None),
        ("N0 ** N1", None),
        ("__import__('os')", None),
        ("", None),
        ("(" * 300 + "1" + ")" * 300, None),
        ("(" * 100 + "1" + ")" * 100, None),
        ("+".join("1" * 200), None),
        ("+".join("1" * 100), 100),
        ("9" * 400, None),
        ("1" + "*999999999999999" * 40, None),
    ],
)
def test_readable_cases(text: str, value: float | None) -> None:
    got = evaluate_equation(text, NUMBERS)
    assert got == (None if value is None else pytest.approx(value))


def test_fewest_parentheses() -> None:
    assert render_equation(parse_equation("((N0-N1)/N2)")) == "( N0 - N1 ) / N2"
    assert render_equation(parse_equation("(N0-(N1+N2))")) == "N0 - ( N1 + N2 )"
    assert render_equation(parse_equation("((N0*N1)+N2)")) == "N0 * N1 + N2"
