"""Counts of the fault checks R1 to R34: printed after the run, and written by `--fault-report FILE`."""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make norms.py importable

from fault_page import Outcome, Row, fault_page

# The first example of a test pays for imports and for whatever else the machine is doing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", metavar="FILE", help="write the counts of R1 to R34 as Markdown")


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


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_of_others() -> None:
    """Trainer collects garbage before it starts: it need not walk over all that is imported and collected."""
    gc.collect()
    gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[STARTED] = time.monotonic()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    stats = terminalreporter.stats
    reports = [report for kind in ("passed", "failed") for report in stats.get(kind, [])]
    rows = sorted(
        (Row(*row) for report in reports for name, row in report.user_properties if name == "fault"),
        key=lambda row: (int(row.check[1:]), row.what),
    )
    if not rows:
        return
    terminalreporter.section("fault checks")
    for check, what, passed, of, seconds in rows:
        terminalreporter.write_line(f"{check:<4}{passed:>4} of {of:<4} {what} ({seconds:.1f} s)")
    if path := config.getoption("--fault-report"):
        passed, failed, skipped = (
            [report.nodeid for kind in kinds for report in stats.get(kind, [])]
            for kinds in (("passed",), ("failed", "error"), ("skipped",))
        )
        seconds = time.monotonic() - config.stash[STARTED]
        Path(path).write_text(fault_page(rows, Outcome(passed, failed, skipped, seconds)), encoding="utf-8")
