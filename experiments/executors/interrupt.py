"""Signals that end a driver: all of them as Ctrl-C does, so that it leaves its folder in order."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from types import FrameType

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Signalled(KeyboardInterrupt):
    """A SIGTERM or SIGHUP, raised as Ctrl-C is; ``number`` says which."""

    number: int = signal.SIGTERM


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
def ended_by_its_signal() -> Iterator[None]:
    """As `ended_as_by_ctrl_c`, but in the end the process dies of the signal: whoever sent it sees that.

    What the interruption has to say goes to stderr before.
    """
    try:
        with ended_as_by_ctrl_c():
            yield
    except Signalled as error:
        print("; ".join(["interrupted", *map(str, error.args)]), file=sys.stderr, flush=True)
        sys.stdout.flush()
        signal.signal(error.number, signal.SIG_DFL)
        os.kill(os.getpid(), error.number)


@contextmanager
def print_when_interrupted(what: Callable[[], str]) -> Iterator[None]:
    """A KeyboardInterrupt of the block says what the same command is going to do when it is given again."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (what(),)
        raise


def end_with_parent() -> None:
    """Have a process of a pool end when its parent does, which by itself would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(3)


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
    ended = Signalled()
    ended.number = number
    raise ended
