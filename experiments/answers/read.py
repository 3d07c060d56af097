"""Reading an answer out of text: the number or the choice a model meant. No input raises."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from manifold_lora.experiments.answers.calculation import result
from manifold_lora.experiments.answers.numerals import (
    NUMERAL,
    digits_of,
    equal_numbers,
    number_value,
    plain_text,
)
from manifold_lora.experiments.answers.statement import places, segments

__all__ = [
    "Scored",
    "answer_segment",
    "equal_numbers",
    "extract_choice",
    "extract_letter",
    "extract_number",
    "number_value",
    "strip_marks",
]

_BRACKETED = re.compile(r"\(([A-Z])\)")
_NEGATED = re.compile(
    r"(?:\b(?:can)?not|n't|\bnever|\bno longer|\bhardly)\s+(?:(?:an?|the|be|option|choice|at all|quite|really"
    r"|entirely|exactly|actually|always|necessarily|the case that (?:it|this|that) is)\s+){0,2}[^\w\s]*$"
)
# A sign apart from its number, where an answer begins; "negative" is one anywhere.
_SPACED_SIGN = re.compile(r"^([ \t]*)(?:-|minus\b)[ \t]+(?=[$€£¥₹.\d])", re.IGNORECASE)
_ALONE = re.compile(r"\s*(?:-|minus\b)[ \t]+[$€£¥₹]?[\d.,]+\s*", re.IGNORECASE)
_NEGATIVE = re.compile(r"\bnegative[ \t]+(?=[$€£¥₹.\d])", re.IGNORECASE)
# Of a choice, behind it.
_REJECTED = re.compile(
    r"[^\w.!?\n]*\s(?:is|are|was|would be)\s+(?:not|wrong|incorrect|false|untrue)\b", re.IGNORECASE
)
_LETTER = re.compile(
    r"(?<![A-Za-z0-9])(?:([A-Z])(?![A-Za-z0-9]|'[A-Za-z])|\(([a-z])\)|([a-z])\)"
    r"|(?:\A[^\w]*|\b(?:option|choice|choose|pick|select)\s+)([a-z])(?=[^\w]*\Z|[ \t]*[.,;:!?\]}*\n])"
    # "a" is a word as well.
    r"|\b(?:option|choice)\s+([b-z])\b)"
)
_UNTRUE = re.compile(r"\buntrue\b", re.IGNORECASE)
_OPPOSITE = {"true": "false", "false": "true", "yes": "no", "no": "yes"}


@dataclass(frozen=True)
class Scored:
    """What was read from an output, and whether it is right; ``extracted`` is "" where nothing was found.

    ``second`` is what another extractor read; it never decides, and None says that the task has only one.
    """

    extracted: str
    correct: bool
    second: str | None = None
    agree: bool = True


def answer_segment(text: str, choices: Sequence[str] = ()) -> tuple[str, str | None]:
    """The part of a text, up to its next question, that holds an answer; and the answer."""
    reading = _choice_in(choices) if choices else _number_in
    parts = segments(plain_text(text))
    for part in parts:
        for place, which in places(part):
            if (found := reading(place, which)) is not None:
                return part, found
    return parts[0], None


def extract_number(text: str) -> str | None:
    """The number an answer text ends on, as plain digits, or None.

    Looks in the last ``\\boxed{}``, else behind the last "answer is" or "####", else takes the last number;
    of a text that goes on with another question, before that. ``20 - 5 = 15`` is 15, ``2 2/3`` is ``8/3``.
    """
    return answer_segment(text)[1]


def _number_in(place: str, which: int) -> str | None:
    place = _NEGATIVE.sub("-", place)
    if which != -1 or _ALONE.fullmatch(place):
        place = _SPACED_SIGN.sub(r"\1-", place)
    if which != -1:
        found = result(place, _numerals(place, NUMERAL.finditer(place)), whole=which > 0)
        if found is not None or not which:
            return found
    backwards = reversed(list(NUMERAL.finditer(place)))
    return next((digits for _, digits in _numerals(place, backwards)), None)


def _numerals(place: str, matches: Iterator[re.Match[str]]) -> Iterator[tuple[re.Match[str], str]]:
    """The finite numbers among matches, and not denied by the place."""
    for match in matches:
        digits = digits_of(match)
        if digits is not None and not _denied(place, match.start()):
            yield match, digits


def _denied(place: str, start: int) -> bool:
    return _NEGATED.search(place[max(0, start - 40) : start].lower()) is not None


def extract_letter(text: str, letters: str = "ABCDE") -> str | None:
    """The choice an answer text names: boxed, else behind "answer is", else the last one; or None.

    Small letters count in brackets, ``b)``, or alone behind the statement: ``answer: b.``.
    """
    return answer_segment(text, tuple(letters))[1]


def extract_choice(text: str, choices: Sequence[str]) -> str | None:
    """The label (``answer2``, ``true``) an answer text names, or the letter where choices are letters.

    A choice that is denied does not count; of two opposites, "not true" names the other one.
    """
    return answer_segment(text, choices)[1]


def _choice_in(choices: Sequence[str]) -> Callable[[str, int], str | None]:
    given = {_plain(choice): choice for choice in choices}
    if all(re.fullmatch("[a-z]", name) for name in given):
        pattern = _LETTER
    else:
        # The longest first: "New" is the beginning of "New York".
        longest = sorted(given, key=len, reverse=True)
        names = "|".join(re.sub(r"(?<=[a-z])(?=\d)", r"[\\s#-]{0,2}", re.escape(name)) for name in longest)
        pattern = re.compile(rf"(?<![a-z0-9])(?<!\d[.,])({names})(?![a-z0-9]|[.,]\d)", re.IGNORECASE)

    def named(place: str, match: re.Match[str]) -> str | None:
        name = _plain(next(group for group in match.groups() if group))
        if _denied(place, match.start()) or _REJECTED.match(place, match.end()):
            name = _OPPOSITE.get(name, "") if len(choices) == 2 else ""
        return given.get(name)

    def reading(place: str, which: int) -> str | None:
        place = _UNTRUE.sub("not true", place)
        matches = pattern.finditer(place)
        ordered = reversed(list(matches)) if which else matches
        return next((choice for match in ordered if (choice := named(place, match))), None)

    return reading


def _plain(choice: str) -> str:
    """A choice in small letters, ``answer 2`` as ``answer2``."""
    return re.sub(r"(?<=[a-z])[\s#-]{0,2}(?=\d)", "", choice.lower())


def strip_marks(text: str, choices: Sequence[str] = ()) -> str:
    """A text in plain writing as math-verify is to read it: letters without brackets, no percent signs.

    An answer of 50 % is written 50 in these tasks, and math-verify would read one half.
    """
    return _BRACKETED.sub(r" \1 ", text) if choices else text.replace("\\%", "").replace("%", "")
