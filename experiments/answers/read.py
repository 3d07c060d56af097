"""Reading an answer out of text: the number or the letter a model meant. No input raises."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from manifold_lora.experiments.answers.equations import evaluate_equation

__all__ = [
    "equal_numbers",
    "evaluate_equation",
    "extract_choice",
    "extract_letter",
    "extract_number",
    "number_value",
    "strip_marks",
]

# An answer stands at the end; a bound on the text bounds the time.
_TAIL = 20_000
# Powers, versions and snake_case are no answers: better none than a part of one.
_NUMBER = re.compile(
    r"(?<![\w.^])[-−]?(?:\d[\d,]*(?:\.\d+)?(?:/\d+(?:\.\d+)?|e[+-]?\d{1,3})?|\.\d+)(?![\d^_]|\.\d)",
    re.ASCII | re.IGNORECASE,
)
_LATEX_COMMA = re.compile(r"\{,\}|\\,(?=\d{3})")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.,]{1,40})\s*\}\s*\{\s*([\d.,]{1,40})\s*\}")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]{1,200})\}")
_STATED = re.compile(r"(?:####|\banswer\s+is\b|\banswer\s*[:=])\s*:?", re.IGNORECASE)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LETTER = re.compile(r"(?<![A-Za-z0-9])\(?([A-Z])\)?(?![A-Za-z0-9'’])")


def extract_number(text: str) -> str | None:
    """The number an answer text ends on, as plain digits, or None.

    Looks in the last ``\\boxed{}``, else behind the last "answer is" or "####", else takes the last number.
    """
    tail = _ascii_digits(text[-_TAIL:])
    tail = _FRACTION.sub(r" \1/\2 ", _LATEX_COMMA.sub(",", tail))
    for place, which in ((_last_boxed(tail), -1), (_after_statement(tail), 0), (tail, -1)):
        if place and (found := _finite_numbers(place)):
            return found[which]
    return None


def _ascii_digits(text: str) -> str:
    if text.isascii():
        return text
    return "".join(str(int(mark)) if mark.isdecimal() else mark for mark in text).replace("−", "-")


def _last_boxed(text: str) -> str:
    found = _BOXED.findall(text)
    return found[-1] if found else ""


def _after_statement(text: str) -> str:
    found = list(_STATED.finditer(text))
    return text[found[-1].end() :] if found else ""


def _finite_numbers(text: str) -> list[str]:
    plain = (match.group().replace(",", "").replace("−", "-") for match in _NUMBER.finditer(text))
    return [number for number in plain if number_value(number) is not None]


def number_value(text: str) -> float | None:
    """The value of ``"12"``, ``"-1,000.5"`` or ``"3/4"``; None where it is no finite number."""
    over, slash, under = text.strip().replace(",", "").partition("/")
    try:
        value = float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def equal_numbers(first: str | float | None, second: str | float | None, tolerance: float = 1e-3) -> bool:
    """Whether two numbers differ by at most ``tolerance``; never true of something that is no number."""
    a, b = (number_value(value) if isinstance(value, str) else value for value in (first, second))
    return a is not None and b is not None and abs(a - b) <= tolerance


def extract_letter(text: str, letters: str = "ABCDE") -> str | None:
    """The choice an answer text names: boxed, else behind "answer is", else the last one; or None."""
    tail = text[-_TAIL:]
    for place, which in ((_last_boxed(tail), -1), (_after_statement(tail), 0), (tail, -1)):
        found = [letter for letter in _LETTER.findall(place) if letter in letters]
        if found:
            return found[which]
    return None


def extract_choice(text: str, choices: Sequence[str]) -> str | None:
    """The label (``answer2``, ``true``) an answer text names, or the letter where choices are letters."""
    if all(len(choice) == 1 for choice in choices):
        return extract_letter(text, "".join(choices))
    tail = text[-_TAIL:].lower()
    names = "|".join(re.escape(choice.lower()) for choice in choices)
    label = re.compile(rf"(?<![a-z0-9])(?:{names})(?![a-z0-9])")
    given = {choice.lower(): choice for choice in choices}
    for place, which in ((_last_boxed(tail), -1), (_after_statement(tail), 0), (tail, -1)):
        if found := label.findall(place):
            return given[found[which]]
    return None


def strip_marks(text: str, choices: Sequence[str] = ()) -> str:
    """The end of a text as math-verify is to read it: ASCII digits and minus, letters without brackets.

    Percent signs go: an answer of 50 % is written 50 in these tasks, and math-verify would read one half.
    """
    tail = _ascii_digits(text[-_TAIL:])
    return _BRACKETED.sub(r" \1 ", tail) if choices else tail.replace("\\%", "").replace("%", "")


@dataclass(frozen=True)
class Scored:
    """What was read from an output, and whether it is right; ``extracted`` is "" where nothing was found.

    ``second`` is what another extractor read; it never decides, and None says that the task has only one.
    """

    extracted: str
    correct: bool
    second: str | None = None
    agree: bool = True
