"""What the rows of data files are: the schema of data/README.md, one class a kind of file."""

import math
import re
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from manifold_lora.experiments.answers.read import number_value

# Above this a float no longer holds every whole number, and no word problem has such an answer.
_LARGEST_ANSWER = 1e15
_LETTERS = ("A", "B", "C", "D", "E")
_OFFER = "Answer Choices:"
_FORMAT = re.compile(r"Answer format:\s*([A-Za-z0-9]+(?:/[A-Za-z0-9]+)+)\s*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_INVISIBLE = re.compile("[\\s\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
# Tokenising a text of 30 MB takes longer than an evaluation; no model reads one.
_LONGEST = 1_000_000


def _printable(text: str) -> str:
    if not _INVISIBLE.sub("", text):
        raise ValueError("is empty")
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    if found := _CONTROL.search(text):
        raise ValueError(f"holds the control character {found.group()!r}")
    return text


def is_number(text: str) -> bool:
    """Whether a gold answer is a finite number up to 1e15, written in digits."""
    # Python takes 4_9 for 49; a person who writes it means something else.
    value = None if "_" in text else number_value(text)
    return value is not None and math.isfinite(value) and abs(value) <= _LARGEST_ANSWER


def _numeric(text: str) -> str:
    if not is_number(text):
        raise ValueError("is not a finite number up to 1e15")
    return text


Text = Annotated[str, AfterValidator(_printable)]
Number = Annotated[str, AfterValidator(_printable), AfterValidator(_numeric)]
Letter = Annotated[str, Field(pattern=r"^[A-E]$")]


def choices_of(instruction: str) -> tuple[str, ...]:
    """What an instruction offers: the letters of ``Answer Choices:``, the labels of ``Answer format:``."""
    if stated := _FORMAT.search(instruction):
        return tuple(stated.group(1).split("/"))
    if _OFFER not in instruction:
        return ()
    offered = instruction.rpartition(_OFFER)[2]
    return tuple(letter for letter in _LETTERS if f"({letter})" in offered)


def question_of(instruction: str) -> str:
    """The question without the choices, whose order and letters differ from copy to copy."""
    return instruction.partition(_OFFER)[0]


class AnyQuestion(BaseModel):
    """Whatever holds an ``instruction`` or a ``question``: all that a leak check has to know."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)
    instruction: str = Field(min_length=1, validation_alias=AliasChoices("instruction", "question"))


class Record(BaseModel):
    """A row of a file: no unknown field, no field of another type."""

    # Built when a file of theirs is read: a command line that only names them need not wait for it.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class InstructionRow(Record):
    """A row with an instruction, which every file but GSM8K's own calls so."""

    instruction: Text


class ProblemRow(InstructionRow):
    """A row of ``tests/*.json`` whose answer is a number."""

    id: Text
    answer: Number


class AnsweredRow(InstructionRow):
    """A row whose answer is one of the choices that the instruction offers, or a number where it offers none.

    Attributes:
        offered: whether the instruction has to offer some.
    """

    offered: ClassVar[bool] = False
    answer: Text

    @model_validator(mode="after")
    def _possible(self) -> Self:
        choices = choices_of(self.instruction)
        if not choices and not self.offered:
            _numeric(self.answer)
        elif self.answer not in choices:
            raise ValueError(f"the answer ({self.answer}) is not among the choices {'/'.join(choices)}")
        return self


class LabelRow(AnsweredRow):
    """A row of ``commonsense/*.test.json``: the answer is one of the labels of the last line."""

    offered = True
    id: Text


class ChoiceRow(LabelRow):
    """A row of ``tests/AQuA.json``: the answer is one of the letters that the instruction offers."""

    answer: Letter


class LabelledRow(LabelRow):
    """A row of ``commonsense/*.train.json``."""

    output: Text


class RationaleRow(AnsweredRow):
    """A row of ``train/aqua*.jsonl``: worked out in words, and answered by a letter."""

    offered = True
    source: Text
    output: Text
    answer: Letter


class EquationRow(InstructionRow):
    """A row of ``train/mawps*_equations.jsonl``."""

    source: Text
    output: Text
    answer: Number
    equation: Text


class MathRow(AnsweredRow):
    """A row of ``train/math10k_rebuild.jsonl``; ``also_in`` names the test files that hold its question."""

    source: Text
    output: Text
    also_in: list[str] = []


class SolvedRow(AnsweredRow):
    """A row of a hub data set, once read."""

    id: Text
    output: Text


class GradeSchoolRow(Record):
    """A row of ``train/gsm8k_train.jsonl``: the answer is a rationale that ends in ``#### number``."""

    question: Text
    answer: Text

    @model_validator(mode="after")
    def _ended(self) -> Self:
        _numeric(self.number)
        return self

    @property
    def instruction(self) -> str:
        """The question."""
        return self.question

    @property
    def number(self) -> str:
        """The number behind ``####``, without its commas."""
        return self.answer.rpartition("####")[2].strip().replace(",", "")

    @property
    def output(self) -> str:
        """The rationale without calculator marks on one line, and ``The answer is N.``"""
        worked = _CALCULATOR.sub("", self.answer.rpartition("####")[0]).strip().replace("\n", " ")
        return f"{worked} The answer is {self.number}."
