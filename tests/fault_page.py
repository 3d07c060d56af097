"""The page of the fault checks: what one run of them counted, on which commit, and what it did not count."""

import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from typing import NamedTuple

from manifold_lora.experiments.bench.commit import commit

HEAD = "| id | check | passed | of | s |\n|---|---|---:|---:|---:|\n"
INTRODUCTION = """# Fault checks as run

Written by one run of `make test-faults` on {day}, at commit {commit}, in {minutes:.0f} min;
Python {python}, {versions}.
{passed} tests passed, {failed} failed, {skipped} were skipped. What each check does is the docstring of its
test in `tests/faults/`. R33, an adapter that is damaged while vLLM serves, is a test of `make test-vllm`.

"""


class Row(NamedTuple):
    """What one check counted: how many of ``of`` cases passed, in ``seconds``."""

    check: str
    what: str
    passed: int
    of: int
    seconds: float


class Outcome(NamedTuple):
    """How the tests of a run ended, by their ids."""

    passed: Sequence[str]
    failed: Sequence[str]
    skipped: Sequence[str]
    seconds: float


def fault_page(rows: Sequence[Row], outcome: Outcome) -> str:
    """The Markdown of a run; a test that failed is named, since it may have failed before it counted."""
    lines = "".join(f"| {a} | {what} | {ok} | {of} | {s:.1f} |\n" for a, what, ok, of, s in rows)
    failed = "".join(f"- failed: `{name}`\n" for name in sorted(outcome.failed))
    return (
        INTRODUCTION.format(
            day=date.today(),
            commit=commit(":!docs/reliability.md"),
            minutes=outcome.seconds / 60,
            python=sys.version.split()[0],
            versions=", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft")),
            passed=len(outcome.passed),
            failed=len(outcome.failed),
            skipped=len(outcome.skipped),
        )
        + (failed and f"{failed}\n")
        + HEAD
        + lines
    )
