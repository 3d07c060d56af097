"""The result of a calculation written out in text: ``20 apples - 5 apples = 15 apples``."""

import re
from collections.abc import Iterable

from manifold_lora.experiments.answers.equations import evaluate_equation

_EQUAL = r"[=≈]|equals"
# What may stand between two numerals of one calculation: a unit of up to two words, and an operator.
_BETWEEN = re.compile(
    r"[ \t%!)\]}$*]*(?:(?!plus|minus|times|divided|equals|of\b|x\b(?!\s*=))[a-z]+[ \t)\]}%$*]*){0,2}"
    rf"(?:[-+*/×÷·x]|plus|minus|times|divided by|of\b|{_EQUAL})[ \t*$€£¥₹(\[{{]*",
    re.IGNORECASE,
)
_WRITTEN = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "×": "*",
    "·": "*",
    "x": "*",
    "divided by": "/",
    "÷": "/",
    "of": "*",
}
_WRITTEN |= {"[": "(", "{": "(", "]": ")", "}": ")"}
_PART = re.compile(r"\bof\b", re.IGNORECASE)
# A factorial is a sign that no equation has: its side cannot be calculated.
_SIGN = re.compile(r"%\s*of\b|\b(?:of|plus|minus|times|divided by|x)\b|[×·÷\[\]{}]|[-+*/()!]", re.IGNORECASE)
# 2(3 + 4) without a sign; "2 (of them ...)" has a blank.
_FACTOR = re.compile(r"\)?\(")
# How far behind "5 of 10" an equals sign has to stand to make it a product.
_NEAR = 30


def result(place: str, numerals: Iterable[tuple[re.Match[str], str]], *, whole: bool = False) -> str | None:
    """The first numeral of a place; of a calculation that it begins, the value of the last side.

    Args:
        place: the text.
        numerals: its numerals in order, each with its plain digits.
        whole: whether all of them have to belong to the calculation.

    Returns plain digits, or None where there is no numeral or a side that cannot be calculated.
    """
    side: list[str] = []
    end = 0
    for match, digits in numerals:
        between = place[end : match.start()]
        if not side:
            side = [_brackets(between)]
        else:
            if not between.strip() and match["sign"]:
                between, digits = match["sign"], digits.lstrip("-")
            between = between.replace("(", "*(") if _FACTOR.fullmatch(between) else between
            if not _BETWEEN.fullmatch(between):
                if whole:
                    return None
                break
            after = place[match.end() : match.end() + _NEAR]
            if _PART.search(between) and not re.search(_EQUAL, place[:end] + after):
                break
            equal = list(re.finditer(_EQUAL, between))
            side = [_signs(between[equal[-1].end() :])] if equal else [*side, _signs(between)]
        side.append(digits)
        end = match.end()
    if len(side) <= 2:
        return side[-1] if side else None
    value = evaluate_equation("".join(side) + _signs(re.match(r"[)\]} ]*", place[end:]).group()))  # type: ignore[union-attr]
    return None if value is None else f"{value:.15g}"


def _signs(text: str) -> str:
    """The operators and brackets of a text, as an equation has them."""
    signs = (sign.lower() for sign in _SIGN.findall(text))
    return "".join("/100*" if sign[0] == "%" else _WRITTEN.get(sign, sign) for sign in signs)


def _brackets(text: str) -> str:
    """The brackets that stand directly before a numeral."""
    kept = text.rstrip(" $(")
    return _signs(text[len(kept) :])
