"""The console that tables are printed on."""

import sys

from rich.console import Console


def wide_console() -> Console:
    """A console as wide as the terminal; 130 columns in a log file, where rich would take 80 and cut.

    What is printed is what is said: brackets and colons in names are no markup.
    """
    return Console(width=None if sys.stdout.isatty() else 130, markup=False, emoji=False)
