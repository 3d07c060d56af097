"""Counts of the fault checks R1 to R25: printed after the run, and written by `--fault-report FILE`."""

import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make norms.py importable

# The first example of a test pays for imports and for whatever else the machine is doing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

HEAD = "| id | check | passed | of | s |\n|---|---|---:|---:|---:|\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", metavar="FILE", help="write the counts of R1 to R25 as Markdown")


@pytest.fixture(scope="session")
def tiny_with_sink() -> Callable[..., Any]:
    """`norms.tiny_with_sink`: builds a tiny Llama whose activations have the norms of SmolLM2's."""
    # Only here: the tests that need no model are quick without its libraries.
    from norms import tiny_with_sink

    return tiny_with_sink


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The name of a real model, SmolLM2-135M-Instruct; skips where nobody has fetched it."""
    from manifold_lora.models.shipped import SHIPPED

    if not SHIPPED["smollm2"].path.is_file():
        pytest.skip("SmolLM2 is not fetched: manifold-lora fetch smollm2 (93 MB)")
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    return "smollm2"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = sorted(
        (row for report in reports for name, row in report.user_properties if name == "fault"),
        key=lambda row: (int(row[0][1:]), row[1]),
    )
    if not rows:
        return
    terminalreporter.section("fault checks")
    for check, what, passed, of, seconds in rows:
        terminalreporter.write_line(f"{check:<4}{passed:>4} of {of:<4} {what} ({seconds:.1f} s)")
    if path := config.getoption("--fault-report"):
        Path(path).write_text(_page(rows), encoding="utf-8")


def _page(rows: list[list[Any]]) -> str:
    lines = "".join(f"| {a} | {what} | {ok} | {of} | {s:.1f} |\n" for a, what, ok, of, s in rows)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    return (
        "# Fault checks as run\n\n"
        f"Written by `make test-faults` on {date.today()}, Python {sys.version.split()[0]}, {versions}.\n"
        "What each check does is the docstring of its test in `tests/faults/`.\n\n" + HEAD + lines
    )
