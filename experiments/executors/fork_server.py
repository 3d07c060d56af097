"""The fork server that children are forked from: it imports what they need once."""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver, get_all_start_methods, get_context, resource_tracker

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.plugins import loaded_modules

# A fresh interpreter imports torch, transformers and peft for seconds; the fork server does it once.
PRELOAD = (
    "datasets",
    "manifold_lora.experiments.runs.evaluate",
    "manifold_lora.experiments.training.gain_probe",
    "manifold_lora.experiments.runs.cell",
    "manifold_lora.experiments.tasks.arithmetic",
    "manifold_lora.experiments.tasks.taxonomy",
    "manifold_lora.experiments.tasks.word_problems",
    "manifold_lora.experiments.training.train",
    "manifold_lora.models.geometry_log",
    "manifold_lora.models.load",
    "transformers.models.llama.modeling_llama",
)
_FIRST = "manifold_lora.experiments.executors.with_parent"
# Read there; not imported from it, which would ask the kernel to end this process with its own parent.
_DRIVER = "MANIFOLD_LORA_DRIVER"


def fork_server(preload: Sequence[str]) -> None:
    """See that this process's fork server runs; a new one imports ``preload`` and the loaded plugins.

    It never hears Ctrl-C, which a terminal sends to all processes, and ends with this one at the latest.
    Raises ManifoldLoraError on a system without fork servers (Windows).
    """
    if "forkserver" not in get_all_start_methods():
        raise ManifoldLoraError("cells", sys.platform, "Linux or macOS", "on Windows run it in WSL")
    get_context("forkserver").set_forkserver_preload([_FIRST, *preload, *loaded_modules()])
    resource_tracker.ensure_running()  # first: it lets SIGINT through again when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ[_DRIVER] = str(os.getpid())
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[_DRIVER]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _end_with(os.getpid())


@cache
def _end_with(pid: int) -> None:
    atexit.register(_end, pid)


def _end(pid: int) -> None:
    """By itself it would first finish its imports."""
    server = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if server is not None and os.getpid() == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
