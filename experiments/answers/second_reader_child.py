"""The child process that runs math-verify: a request a line on stdin, its reading a line on stdout.

A process of its own, because math-verify's own time limit is a signal (main thread only, whole seconds) and
nothing but killing a process ends a power that is computed in C.
"""

import json
import logging
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse
from sympy import FiniteSet, Tuple

_NUMBERS = (LatexExtractionConfig(), ExprExtractionConfig())
# The LaTeX grammar is built on first use; a reader's first question should not pay for it.
_WARM_UP = (
    "The answer is 8.",
    "12-7",
    "3/4",
    "2^10",
    r"so \boxed{\frac{3}{4}}",
    "$x=5$",
    r"$\sqrt{2}\cdot 50\%$",
    r"$-1,000.5$",
)
_MEMORY = 2 << 30


class _OutOfTime(BaseException):
    """Not an Exception: math-verify catches those."""


def _ring(*_: object) -> None:
    raise _OutOfTime


def read(text: str, choices: Sequence[str]) -> str | None:
    """What math-verify finds in ``text``: a number as plain digits, or one of ``choices``; or None."""
    if choices:
        found = parse(text, [StringExtractionConfig(strings=tuple(choices))], parsing_timeout=0)
        return next((choice for choice in choices if found and choice.lower() == str(found[0]).lower()), None)
    found = parse(text, _NUMBERS, parsing_timeout=0)
    return _digits(found[0]) if found else None


def _digits(value: Any) -> str | None:
    """A sympy value, the right-hand side of an equation or the one member of a set, as a float's digits."""
    value = getattr(value, "rhs", value)
    if isinstance(value, Tuple | FiniteSet) and len(value) == 1:
        (value,) = value
    number = float(value.doit())
    return f"{number:.15g}" if abs(number) < float("inf") else None


def _die_after(seconds: float) -> None:
    """Have the kernel end this process if it computes that long in C, whose parent may be gone by then."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, hard))


def _timed(seconds: float, call: Callable[[], str | None]) -> str | None:
    _die_after(10 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return call()
    except (_OutOfTime, Exception):  # any text is answered: what cannot be read is no answer
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> None:
    """Answer ``[text, choices, seconds]`` by a reading or null, until stdin ends."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _ring)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, whose end closes stdin
    for text in _WARM_UP:
        _timed(10.0, lambda text=text: read(text, ()))  # type: ignore[misc]
    read("The answer is B", ("A", "B"))
    print("ready", flush=True)
    for line in sys.stdin:
        text, choices, seconds = json.loads(line)
        try:
            reading = _timed(seconds, lambda text=text, choices=choices: read(text, choices))  # type: ignore[misc]
        except _OutOfTime:  # it rang between the answer and switching it off
            reading = None
        print(json.dumps(reading), flush=True)


if __name__ == "__main__":
    main()
