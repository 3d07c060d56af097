"""Command lines of a few flags, for verbs without a settings tree."""

import argparse
from typing import NoReturn

from manifold_lora.errors import ManifoldLoraError


class PlainFlags(argparse.ArgumentParser):
    """An ArgumentParser that raises ManifoldLoraError, which is one line, where argparse prints its usage."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        raise ManifoldLoraError("command line", message, f"the flags of {self.prog} --help")
