"""math-verify behind a time limit that holds in any thread or process."""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from manifold_lora.errors import ManifoldLoraError

# The grammar's time grows faster than the text, and an answer stands at its end.
_TAIL = 400
_START_SECONDS = 60.0
# A child that is not given the processor is waited for: this many times the limit on the clock.
_PATIENCE = 50.0
# Seconds between two looks at what a child has spent.
_TICK = 0.01


class MathReader:
    """Reads numbers and choices out of texts by math-verify, in a child process kept for the next text.

    A text that takes longer than ``limit`` seconds of the processor is answered by None: the child is
    interrupted at half of it, and killed and replaced at 0.9 of it. Not seconds on the clock, by which a busy
    machine would read other answers than an idle one. Safe to call from several threads; a forked process
    gets a child of its own.
    """

    def __init__(self, limit: float = 0.1) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._inherited: subprocess.Popen[bytes] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        atexit.register(self.close)

    def start(self) -> None:
        """Have the child ready, so that the next reading does not wait a second for it.

        Raises ManifoldLoraError if it does not start.
        """
        with self._lock:
            self._running()

    def read(self, text: str, choices: Sequence[str] = ()) -> str | None:
        """The number (as digits) or the choice that math-verify finds at the end of ``text``, or None."""
        tail = text[-_TAIL:].encode("utf-8", "replace").decode("utf-8")
        request = json.dumps([tail, list(choices), self._limit / 2]).encode() + b"\n"
        with self._lock:
            child = self._running()
            try:
                line = self._answer(child, request)
            except (OSError, psutil.Error):
                line = None
            if line is None:
                self._stop()
                self._spawn()  # by the time the next text comes it may be ready
                return None
        reading = json.loads(line)
        return None if reading is None else str(reading)

    def _answer(self, child: "subprocess.Popen[bytes]", request: bytes) -> bytes | None:
        process, start = psutil.Process(child.pid), time.monotonic()
        begun = _cpu_seconds(process)
        child.stdin.write(request)  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
        return _line(
            child,
            lambda: (
                _cpu_seconds(process) - begun > 0.9 * self._limit
                or time.monotonic() - start > _PATIENCE * self._limit
            ),
        )

    def close(self) -> None:
        """End the child."""
        self._stop()

    def _forked(self) -> None:
        # The child answers the process that started it, whose thread may have held the lock; kept, because
        # collecting it would warn of a process that still runs.
        self._inherited, self._child, self._lock = self._child, None, threading.Lock()

    def _running(self) -> subprocess.Popen[bytes]:
        child, start = self._child or self._spawn(), time.monotonic()
        if not self._ready and _line(child, lambda: time.monotonic() - start > _START_SECONDS) != b"ready\n":
            self._stop()
            raise ManifoldLoraError("math-verify", "no answer", "a child process that starts", _HINT)
        self._ready = True
        return child

    def _spawn(self) -> subprocess.Popen[bytes]:
        if not hasattr(signal, "setitimer"):
            raise ManifoldLoraError(
                "math-verify's time limit", sys.platform, "Linux or macOS", "on Windows run it in WSL"
            )
        # -P: a file math_verify.py of the working directory is not ours to run.
        command = [sys.executable, "-P", "-m", "manifold_lora.experiments.answers.second_reader_child"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._child, self._ready = child, False
        return child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                with suppress(OSError):  # what was not yet written has no reader
                    stream.close()  # type: ignore[union-attr]


_HINT = "python -m manifold_lora.experiments.answers.second_reader_child tells why"


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _line(child: "subprocess.Popen[bytes]", over: Callable[[], bool]) -> bytes | None:
    """The next line of a child's answer, or None at its end or when it is ``over``."""
    source, line = child.stdout.fileno(), b""  # type: ignore[union-attr]
    while not line.endswith(b"\n"):
        if select.select([source], [], [], _TICK)[0]:
            part = os.read(source, 65536)
            if not part:
                return None
            line += part
        elif over():
            return None
    return line
