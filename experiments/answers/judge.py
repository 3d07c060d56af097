"""An answer read out of a text by two extractors, of which the first decides and both are kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from manifold_lora.experiments.answers.read import Scored, answer_segment, equal_numbers, strip_marks
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
    segment, first = answer_segment(text, choices)
    second = reader().read(strip_marks(segment, choices), choices)
    agree = first == second if choices or None in (first, second) else equal_numbers(first, second)
    return Extraction(first, second, agree)


def is_right(text: str, answer: str, choices: Sequence[str] = ()) -> bool:
    """Whether the first extractor reads the answer: the same choice, or a number within 1e-3 of it."""
    _, found = answer_segment(text, choices)
    return found == answer if choices else equal_numbers(found, answer)


def judge(text: str, answer: str, choices: Sequence[str] = ()) -> Scored:
    """Score an output by the first extractor, and keep what the second read."""
    found = extract(text, choices)
    right = found.first == answer if choices else equal_numbers(found.first, answer)
    return Scored(found.first or "", right, found.second or "", found.agree)


def stated(answer: str, choices: Sequence[str] = ()) -> str:
    """A sentence that states an answer, in the words that the training targets of its kind end with."""
    if len(choices) and len(choices[0]) > 1:
        return f"the correct answer is {answer}"
    return f"The answer is ({answer})." if choices else f"The answer is {re.sub(r'[.]0+$', '', answer)}."
