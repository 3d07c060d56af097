"""The console that tables are printed on."""

import sys

from rich.console import Console


def wide_console() -> Console:
    """A console as wide as the terminal; 130 columns in a log file, where rich would take 80 and cut."""
    return Console(width=None if sys.stdout.isatty() else 130)
