"""Rows of a person's own file: which field is the question, what is learned, and what is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.read import extract_choice, extract_number
from manifold_lora.experiments.data.rows import Text, choices_of, is_number
from manifold_lora.numbers import is_number as is_finite

NUMBER, CHOICE, EXACT = "number", "choice", "exact"
# Read where no flag names a field; the first that a row has.
_QUESTIONS = ("prompt", "question", "instruction")
_TARGETS = ("completion", "output", "response")
# Share of rows of another kind that is taken for slips.
_FEW = 0.1


@dataclass(frozen=True)
class Fields:
    """The field names of a file; None: the usual ones. ``judge`` None: not stated."""

    prompt: str | None = None
    target: str | None = None
    answer: str | None = None
    choices: str | None = None
    judge: str | None = None


class OwnRow(BaseModel):
    """One example: what is asked, the text to learn, the answer to judge by, and what it is chosen from.

    ``messages`` holds a conversation up to the answer, empty where the row is plain text; ``verbatim`` says
    that the prompt is a whole prompt already and needs no frame.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)
    fields: ClassVar[Fields] = Fields()

    prompt: Text
    target: Text
    answer: Text
    choices: tuple[Text, ...] = ()
    messages: tuple[dict[str, str], ...] = ()
    verbatim: bool = False
    id: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _mapped(cls, row: Any) -> dict[str, Any]:
        if not isinstance(row, Mapping):
            raise ValueError("is no object")
        return _read(row, cls.fields)


def own_rows(fields: Fields) -> type[OwnRow]:
    """The schema of a file with these field names."""
    return type("OwnRow", (OwnRow,), {"fields": fields, "__module__": __name__})


def _read(row: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    found = _conversation(row, fields) or _plain(row, fields)
    choices = _choices(row, fields) or choices_of(found["prompt"])
    answer = _text(row, fields.answer or "answer", required=fields.answer is not None)
    answer = answer or _answer_in(found["target"], choices, fields.judge)
    if fields.judge == NUMBER and not is_number(answer):
        raise ValueError(f"the answer ({answer[:40]!r}) is not a finite number up to 1e15")
    if fields.judge in (None, CHOICE) and (choices or fields.judge) and answer not in choices:
        raise ValueError(f"the answer ({answer[:40]!r}) is not among the choices {'/'.join(choices)[:80]}")
    return found | {"answer": answer, "choices": choices, "id": _text(row, "id", required=False) or None}


def _plain(row: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    name = fields.prompt or next((name for name in _QUESTIONS if name in row), None)
    if name is None:
        raise ValueError(f"has none of messages, {', '.join(_QUESTIONS)}; task.prompt_field names another")
    prompt, verbatim = _text(row, name), name == "prompt"
    if name == "instruction" and (more := _text(row, "input", required=False)).strip():
        prompt = f"{prompt}\n\n{more}"  # Alpaca's two fields are one question
    target = fields.target or next((name for name in _TARGETS if name in row), fields.answer or "answer")
    return {"prompt": prompt, "target": _text(row, target), "verbatim": verbatim}


def _conversation(row: Mapping[str, Any], fields: Fields) -> dict[str, Any] | None:
    """``messages``, or ``prompt`` and ``completion`` as lists of messages; None for a row of plain text."""
    if fields.prompt is None and isinstance(row.get("prompt"), list):
        given = [*row["prompt"], *_list(row, "completion")]
    elif "messages" in (fields.prompt, *row) and fields.prompt in (None, "messages"):
        given = _list(row, "messages")
    else:
        return None
    turns = [_message(turn) for turn in given]
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or turns[-2]["role"] == "assistant":
        raise ValueError("messages do not end on one answer of the assistant")
    *asked, answer = turns
    whole = "\n".join(turn["content"] for turn in asked)
    return {"prompt": whole, "target": answer["content"], "messages": tuple(asked), "verbatim": True}


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list of messages")
    return value


def _message(turn: Any) -> dict[str, str]:
    texts = isinstance(turn, Mapping) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
    if not texts or turn["role"] not in ("system", "user", "assistant"):
        raise ValueError("a message is no {role: system, user or assistant, content: text}")
    return {"role": turn["role"], "content": turn["content"]}


def _choices(row: Mapping[str, Any], fields: Fields) -> tuple[str, ...]:
    value = row.get(fields.choices or "choices")
    if value is None and fields.choices is None:
        return ()
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{fields.choices or 'choices'} is no list of two texts or more")
    # The readers of answers do not tell capitals apart.
    if len({each.strip().casefold() for each in value}) < len(value):
        raise ValueError(f"{fields.choices or 'choices'} repeats a choice")
    return tuple(value)


def _text(row: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """A field as text; numbers become their digits."""
    value = row.get(name)
    if value is None and not required:
        return ""
    # JSON's 1e400 is read as infinity.
    if is_finite(value):
        return str(value)
    if not isinstance(value, str):
        fault = "is missing" if name not in row else f"is no text: {str(value)[:40]}"
        raise ValueError(f"field {name} {fault}; the row has {', '.join(map(str, row))}"[:200])
    return value


def _answer_in(target: str, choices: tuple[str, ...], judge: str | None) -> str:
    """The answer of a row that states none: what its target says, or the target itself."""
    if judge == NUMBER:
        return extract_number(target) or ""
    if choices:
        return extract_choice(target, choices) or ""
    return target.strip()


def judge_of(rows: list[OwnRow]) -> str:
    """How all rows can be judged: by choice, by number, else by their exact text.

    Raises ManifoldLoraError where only a few are no numbers, or have no choices: one slip would change how
    all are judged.
    """
    kinds: tuple[tuple[str, Callable[[OwnRow], bool]], ...] = (
        (CHOICE, lambda row: bool(row.choices)),
        (NUMBER, lambda row: is_number(row.answer)),
    )
    for kind, fits in kinds:
        others = [row for row in rows if not fits(row)]
        if not others:
            return kind
        if len(others) <= _FEW * len(rows):
            got = f"{others[0].answer[:40]!r} among {len(rows) - len(others)} that are judged by {kind}"
            raise ManifoldLoraError("answer of an own file", got, "one kind, or task.judge stated")
    return EXACT
