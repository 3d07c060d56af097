"""Fault checks R1 to R34: each counts what it tried, on the eight arms where an arm matters."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make fault_runs.py importable

from fault_arms import EIGHT_ARMS

Tally = Callable[[str, str, int, int], None]


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """``tally(id, what, passed, of)``: count a check, and fail unless all passed."""
    start = time.monotonic()

    def count(check: str, what: str, passed: int, of: int) -> None:
        row = [check, what, int(passed), int(of), time.monotonic() - start]
        request.node.user_properties.append(("fault", row))
        assert passed == of, f"{check} {what}: {passed} of {of}"

    return count


@pytest.fixture(params=EIGHT_ARMS)
def arm(request: pytest.FixtureRequest) -> str:
    """Each of the eight arms."""
    return str(request.param)
