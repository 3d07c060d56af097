"""The process of one attempt at a job: what runs inside it, and the handle its driver holds."""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Job

# What torch says where malloc fails; it is a RuntimeError like any other.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class Ending:
    """The last message of a child."""

    status: str
    reason: str = ""
    value: Any = None
    traceback: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What a child sets up before it works: log file, torch threads, environment variables."""

    log: Path
    threads: int
    environment: dict[str, str]


def child(job: Job, pipe: Connection, surroundings: Surroundings) -> None:
    """Run a job and send its steps, (step, steps[, what]), and its `Ending` through the pipe."""
    # What the fork server imported stays for good: no collection of garbage has to walk over it.
    gc.freeze()
    # Ctrl-C reaches the whole foreground group; only the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, args=(pipe,), daemon=True).start()
    os.environ.update(surroundings.environment)
    _use_threads(surroundings.threads)
    log = surroundings.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as stream:
        _write_to(stream)
        _send(pipe, _work(job, pipe))


def _work(job: Job, pipe: Connection) -> Ending:
    def progress(*at: Any) -> None:
        pipe.send(at)

    try:
        return Ending("ok", value=job.work(*job.arguments, progress))
    except Exception as error:
        text = traceback.format_exc()
        with contextlib.suppress(OSError):  # the disk that the log is on may be what failed
            print(text, file=sys.stderr)
        return Ending(*_status(error), traceback=text)


def _send(pipe: Connection, ending: Ending) -> None:
    try:
        pipe.send(ending)
    except (TypeError, AttributeError, ValueError) as error:  # a value or an error that cannot be pickled
        reason = ending.reason or f"its value cannot be sent: {error}"
        status = "failed" if ending.status == "ok" else ending.status
        pipe.send(Ending(status, reason, traceback=ending.traceback))


def _status(error: Exception) -> tuple[str, str, Exception | None]:
    if isinstance(error, ManifoldLoraError):
        return error.status, str(error), error
    reason = f"{type(error).__name__}: {error}"
    short = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)
    return "oom" if short or isinstance(error, MemoryError) else "failed", reason, None


def _end_with_driver(pipe: Connection) -> None:
    """Wait for the driver's end of the pipe to close: nobody would use this result's slot any more."""
    with contextlib.suppress(OSError):
        pipe.poll(None)
    os._exit(3)


def _use_threads(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _write_to(stream: TextIO) -> None:
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] process {os.getpid()}")
