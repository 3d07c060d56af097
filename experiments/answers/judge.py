"""Two readings of every answer, so that a score never hangs on one regular expression unseen."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from manifold_lora.experiments.answers.read import (
    Scored,
    equal_numbers,
    extract_choice,
    extract_number,
    strip_marks,
)
from manifold_lora.experiments.answers.second_reader import MathReader


@dataclass(frozen=True)
class Extraction:
    """What was read by the first extractor (last number, choice or label) and by the second (math-verify)."""

    first: str | None
    second: str | None
    agree: bool


@cache
def reader() -> MathReader:
    """The one math-verify child of this process."""
    return MathReader()


def extract(text: str, choices: Sequence[str] = ()) -> Extraction:
    """Read an answer twice: a number, or one of ``choices``. No input raises or takes over 0.1 s a reading.

    Numbers agree within 1e-3, as they are judged; two readings of nothing agree.
    """
    second = reader().read(strip_marks(text, choices), choices)
    first = extract_choice(text, choices) if choices else extract_number(text)
    agree = first == second if choices or None in (first, second) else equal_numbers(first, second)
    return Extraction(first, second, agree)


def judge(text: str, answer: str, choices: Sequence[str] = ()) -> Scored:
    """Score an output by the first extractor, and keep what the second read.

    Right is the same choice, or a number within 1e-3 of the answer.
    """
    found = extract(text, choices)
    right = found.first == answer if choices else equal_numbers(found.first, answer)
    return Scored(found.first or "", right, found.second or "", found.agree)
