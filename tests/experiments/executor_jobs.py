"""Work for the executor's tests; top-level, so that a child process can import it."""

import os
import signal
import time

from manifold_lora.manifolds.errors import ManifoldLoraError


def answer(value, progress):
    progress(1, 2)
    return value * 2


def fail(progress):
    raise RuntimeError("no such luck")


def refuse(progress):
    raise ManifoldLoraError("colour", "blue", ("red", "green"))


def die(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(progress):
    time.sleep(600)
