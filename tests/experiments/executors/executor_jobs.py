"""Work for the executor's tests; top-level, so that a child process can import it."""

import os
import signal
import threading
import time
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError


def answer(value, progress):
    progress(1, 2)
    return value * 2


def fail(progress):
    raise RuntimeError("no such luck")


def refuse(progress):
    raise ManifoldLoraError("colour", "blue", ("red", "green"))


def die(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark, progress):
    if not Path(mark).exists():
        Path(mark).touch()
        die(progress)


def ask_for_too_much(progress):
    import torch

    torch.empty(2**50)


def answer_with_a_lock(progress):
    return threading.Lock()


def visible_gpus(progress):
    return os.environ["CUDA_VISIBLE_DEVICES"]


def hang(progress):
    time.sleep(600)
