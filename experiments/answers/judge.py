"""An answer read out of a text by two extractors, of which the first decides and both are kept."""

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
    _, first = answer_segment(text, choices)
    second = second_reading(text, choices) or None
    return Extraction(first, second, agree(first or "", second or "", choices))


def second_reading(text: str, choices: Sequence[str] = ()) -> str:
    """What math-verify reads, "" for nothing."""
    segment, _ = answer_segment(text, choices)
    return reader().read(strip_marks(segment, choices), choices) or ""


def agree(first: str, second: str | None, choices: Sequence[str] = ()) -> bool:
    """Whether two readings are the same; a text that was read once (None) agrees with itself."""
    if second is None or choices or not (first and second):
        return second in (None, first)
    return equal_numbers(first, second)


def judge(text: str, answer: str, choices: Sequence[str] = ()) -> Scored:
    """Score an output: right is the same choice, or a number within 1e-3 of the answer."""
    _, found = answer_segment(text, choices)
    right = found == answer if choices else equal_numbers(found, answer)
    return Scored(found or "", right)


def stated(answer: str, choices: Sequence[str] = ()) -> str:
    """A sentence that states an answer, in the words that the training targets of its kind end with."""
    if len(choices) and len(choices[0]) > 1:
        return f"the correct answer is {answer}"
    return f"The answer is ({answer})." if choices else f"The answer is {answer}."
