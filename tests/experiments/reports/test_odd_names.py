"""Names that a console, a spreadsheet or a terminal would take for something else; files before tables."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from manifold_lora.experiments.commands.console import wide_console
from manifold_lora.experiments.reports.console import literal
from manifold_lora.experiments.reports.csv_files import _cell
from manifold_lora.experiments.reports.report import write_report

ODD = ["[red]x[/]", "[/]", "=1+2", ":smile:", "@sum", "a\x1b[31mb", "$x$", "<b>"]


@pytest.fixture
def folder(arms_named) -> Path:
    return arms_named(ODD)


@pytest.mark.parametrize("markup", [True, False])
def test_names_are_printed_as_they_are(folder: Path, markup: bool) -> None:
    console = Console(file=io.StringIO(), width=250, markup=markup, emoji=markup)
    assert write_report(folder, console) == 1
    message = console.file.getvalue()
    for name in ODD:
        assert name.replace("\x1b", "�") in message
    assert "\x1b" not in message


def test_no_cell_of_a_csv_file_is_a_formula(folder: Path) -> None:
    write_report(folder, Console(file=io.StringIO(), width=250))
    for name in ("table.csv", "comparisons.csv"):
        rows = list(csv.reader((folder / name).read_text(encoding="utf-8").splitlines()))
        arms = {row[0] for row in rows[1:]}
        assert {"'=1+2", "'@sum", "[/]"} <= arms
        for row in rows:
            assert not any(cell.startswith(("=", "@")) for cell in row)


@given(st.text() | st.floats() | st.none())
def test_numbers_stay_numbers(value: object) -> None:
    cell = _cell(value)
    if isinstance(value, str):
        assert cell.removeprefix("'") == value.removeprefix("'")
        assert not cell.lstrip(" \n").startswith(tuple("=+-@\t\r＝＋－＠"))
    else:
        assert cell is value


@given(st.text(max_size=20))
def test_no_control_character_reaches_the_console(text: str) -> None:
    assert literal(text).plain.isprintable()
    assert len(literal(text).plain) == len(text)


class Full(io.StringIO):
    """Standard output on a full disk, or one that lacks a sign."""

    def write(self, text: str) -> int:
        raise UnicodeEncodeError("ascii", text, 0, 1, "ordinal not in range")


def test_files_are_written_before_anything_is_printed(folder: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_report(folder, Console(file=Full(), width=250))
    for name in ("report.html", "table.csv", "comparisons.csv", "table.tex", "table.png"):
        assert (folder / name).stat().st_size > 0


def test_the_console_of_the_commands_reads_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    wide_console().print("[/] :smile: [red]x")
    assert capsys.readouterr().out == "[/] :smile: [red]x\n"
