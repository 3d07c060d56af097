"""Long work speaks: lines in a log file with the time left, bars on a terminal."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from manifold_lora.experiments.executors import progress
from manifold_lora.experiments.executors.base import Outcome
from manifold_lora.experiments.executors.progress import EVERY, SELDOM, Bars, Lines, shown_on
from manifold_lora.experiments.runs.progress import CellProgress


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def log() -> Console:
    return Console(file=io.StringIO(), width=80)


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


def test_a_line_at_each_tenth_with_the_time_left(clock: Clock) -> None:
    console = log()
    with shown_on(console) as shown:
        for step in range(1, 201):
            clock.now = 0.5 * step
            shown.move("train", "lora", step, 200, f"loss {step / 100:g}")
    assert lines(console)[0] == "lora: 20 of 200, loss 0.2, 0:01:30 left"
    assert lines(console)[-1] == "lora: 200 of 200, loss 2"
    assert len(lines(console)) == 10


def test_slow_work_speaks_by_the_minute(clock: Clock) -> None:
    console = log()
    shown = Lines(console)
    for step in range(1, 7):
        clock.now = 25.0 * step
        shown.move("cell", "lora", step, 1000, often=SELDOM)
    assert lines(console) == ["lora: 4 of 1000, 6:55:00 left"]


def test_resumed_work_counts_its_own_time(clock: Clock) -> None:
    console = log()
    shown = Lines(console)
    for step in (61, 62, 80):
        clock.now = float(step)
        shown.move("train", "lora", step, 100)
    assert lines(console) == ["lora: 61 of 100", "lora: 80 of 100, 0:00:20 left"]


@given(total=st.integers(1, 500), seconds=st.floats(0, 0.01))
def test_any_work_says_when_it_begins_and_ends(total: int, seconds: float) -> None:
    console = log()
    shown = Lines(console)
    for step in range(1, total + 1):
        shown.move("train", "lora", step, total)
    said = [int(line.split()[1]) for line in lines(console)]
    assert said == sorted(set(said))
    assert said[-1] == total
    assert min(total, 5) <= len(said) <= 10
    assert said[0] <= -(-total // 10)


def test_what_is_printed_is_what_is_named() -> None:
    console = log()
    Lines(console).move("x", "[red]x[/] [/]", 1, 1, "[b]", EVERY)
    assert lines(console) == ["[red]x[/] [/]: 1 of 1, [b]"]
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    with shown_on(terminal) as shown:
        assert isinstance(shown, Bars)
        shown.move("x", "[red]x[/] [/]", 1, 2, "[b]")
        shown.move("x", "[red]x[/] [/]", 1, 3, "[b]")
    assert "[red]x[/] [/]" in terminal.file.getvalue()


def test_a_sweep_in_a_log_file_tells_each_cell_and_not_each_step() -> None:
    console = log()
    with CellProgress(console) as cells:
        cells.begin({"a": "[a]", "b": "b"}, 1, 3)
        for step in range(1, 101):
            cells.step("a", step, 100)
        cells.end(Outcome("a", "ok"))
        cells.end(Outcome("b", "failed", "[/] went wrong"))
    message = lines(console)
    assert message[0] == "cells: 1 of 3"
    assert message[1].startswith("cells: 2 of 3")
    assert message[2:] == ["b: failed: [/] went wrong", "cells: 3 of 3"]


def test_train_speaks_in_a_pipe(base: str, tmp_path: Path) -> None:
    """Each line is there when it is said, not when the buffer is full."""
    flags = {
        "--model": base,
        "--output": str(tmp_path / "run"),
        "--task.limit": "8",
        "--train.steps": "20",
        "--evaluation.max-new-tokens": "2",
    }
    command = [sys.executable, "-m", "manifold_lora.experiments.cli", "train"]
    words = [word for pair in flags.items() for word in pair]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("custom: ")]
    assert [line.split(",")[0] for line in said[:10]] == [f"custom: {step} of 20" for step in range(2, 21, 2)]
    assert "loss" in said[0]
    assert said[0].endswith(" left")
