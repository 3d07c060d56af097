"""Signals that end a driver: all of them as Ctrl-C does, so that it leaves its folder in order."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt in the block (in the main thread; nohup stays nohup)."""
    with kept_handlers():
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, _interrupt)
        yield


@contextmanager
def told_when_interrupted(what: Callable[[], str]) -> Iterator[None]:
    """A KeyboardInterrupt of the block says what the same command is going to do when it is given again."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what()) from None


@contextmanager
def kept_handlers() -> Iterator[None]:
    """After the block these signals are handled as before, whatever was set in it (Ray sets its own)."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
