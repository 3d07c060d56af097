"""One job on a node of a cluster: a child process there, under the same limits as on one machine."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifold_lora.experiments.executors.base import Job, Limits, Outcome
from manifold_lora.experiments.executors.fork_server import PRELOAD
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.manifolds.plugins import load_plugins, loaded_modules


@dataclass(frozen=True)
class Supervisor:
    """What a node needs to know to run jobs as the driver's machine would."""

    limits: Limits
    logs: Path
    preload: Sequence[str] = PRELOAD
    plugins: Sequence[str] = ()
    path: Sequence[str] = ()

    @classmethod
    def here(cls, limits: Limits, logs: Path, preload: Sequence[str] = PRELOAD) -> "Supervisor":
        """With this process's plugins and import path."""
        return cls(limits, logs.absolute(), preload, loaded_modules(), tuple(sys.path))

    def run(self, job: Job) -> Outcome:
        """Run one job in a child of this process; GPUs are those that this process was given."""
        sys.path.extend(entry for entry in self.path if entry not in sys.path)
        load_plugins(name for name in self.plugins if name not in loaded_modules())
        given = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
        executor = LocalExecutor(1, self.limits, self.logs, given, preload=self.preload)
        with _main_unnamed():
            (outcome,) = executor.run([job])
        return outcome


@contextmanager
def _main_unnamed() -> Iterator[None]:
    """Children import their parent's main module; a cluster's worker has no jobs in its own."""
    main = vars(sys.modules["__main__"])
    file = main.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main["__file__"] = file
