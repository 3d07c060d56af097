"""Where an answer stands in a text: in the last box, or behind "answer is", before the next question."""

import re

from manifold_lora.experiments.answers.numerals import TAIL

_NEXT_QUESTION = re.compile(
    r"(?:^|(?<=\s))(?:Question|QUESTION|Problem|Instruction)\s*\d*\s*:"
    # Of Markdown too: **Question:**, ## Question 2.
    r"|(?:^|\n)[ \t>#*_]*(?i:(?:next |new |another )?(?:q|question|problem|exercise|instruction|user|human)"
    r"|example(?=\s*\d))"
    r"\s*\d*[*_]*\s*(?::|(?<=\d)\.(?=\s)|(?<=\d )[-–—])"
    # The turns of chat templates, with and without their special tokens; Alpaca's frame.
    r"|(?:^|\n)#*[ \t]*(?i:question|problem|instruction|user|human)[ \t]*(?=\n)"
    r"|\[INST\]|<\|?(?:im_start|start_of_turn|user)\|?>|(?:^|\n)Below is an instruction that"
)
_STATED = re.compile(
    r"####|\b(?:ans(?:wers?)?(?!\s+(?:choice|option|format))|(?:correct|right|best)\s+(?:choice|option))\b[^.\n\d=:]{0,40}?"
    r"(?:\b(?:is|are|was|equals|(?:would|will|must|should)\s+be)\b|[:=]|\s-\s)(?:\s*:)?",
    re.IGNORECASE,
)
_BRACE = re.compile(r"\\[{}]|\\f?boxed\s*\{|[{}]")
_SENTENCE_END = re.compile(r"[.!?][)\"'*]*(?=\s)|\n")


def segments(text: str) -> list[str]:
    """The parts of a text between the questions that it asks itself; whoever goes on asking has answered."""
    return _NEXT_QUESTION.split(text)


def places(segment: str) -> list[tuple[str, int]]:
    """Where to look, best first, and which reading counts there.

    1: all of it if that is one calculation, else the last one; 0: the first one; -1: the last one.
    """
    stated = list(_STATED.finditer(segment))
    found = [(segment[box[0] : box[1]], 1) for box in boxes(segment)[-1:]]
    found += [(segment[stated[-1].end() :], 0)] if stated else []
    return [*found, (segment, -1)]


def boxes(text: str) -> list[tuple[int, int]]:
    r"""Start and end of what stands in each closed ``\boxed{}``, in the order in which they are closed."""
    opened: list[tuple[int, bool]] = []
    closed: list[tuple[int, int]] = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "}" and opened:
            start, is_box = opened.pop()
            closed += [(start, brace.start())] if is_box else []
        elif brace.group()[-1] == "{" and brace.group() != r"\{":
            opened.append((brace.end(), brace.group() != "{"))
    return closed


def finished(text: str) -> str:
    """What may be read of a text that the token limit has cut; "" where the answer may have been cut too.

    That is what stands before a question that the text goes on to ask, or the last statement of an answer
    ("the answer is 12. ", a closed box) that ends before the cut. A number at the very end may go on, and one
    without a statement may be a step on the way.
    """
    text = text[-TAIL:]
    asked = [match.start() for match in _NEXT_QUESTION.finditer(text) if text[: match.start()].strip()]
    if asked:
        return text[: asked[0]]
    boxed = boxes(text)[-1:]
    whole = text[: max([end.end() for end in _SENTENCE_END.finditer(text)], default=0)]
    stated = [match.start() for match in _STATED.finditer(whole)][-1:]
    start = text.rfind("\\", 0, boxed[0][0]) if boxed else len(text)
    return text[start : boxed[0][1] + 1] if boxed else whole[stated[0] :] if stated else ""
