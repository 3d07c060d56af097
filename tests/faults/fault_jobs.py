"""Cells of a few milliseconds, and a driver that sweeps them: what the faults of R1 to R25 are tried on.

As a script, ``python fault_jobs.py FOLDER [--cells N] ...`` runs a sweep as the command line does.
"""

import argparse
import os
import sys
import time
from hashlib import sha256
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.base import Job, Limits, Outcome
from manifold_lora.experiments.executors.interrupt import ended_as_by_ctrl_c
from manifold_lora.experiments.executors.local import LocalExecutor
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat
from manifold_lora.experiments.sweeps.sweep import Sweep, work_of

LOG = "log.txt"


class Unwatched:
    """A watch that looks away."""

    def begin(self, names, done, total):
        pass

    def step(self, job, step, steps):
        pass

    def wait(self, jobs):
        pass

    def end(self, outcome: Outcome):
        pass


def note(folder, word, cell):
    """Append a line; one write of an O_APPEND file is never torn by another process's."""
    handle = os.open(Path(folder) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, f"{word} {cell} {os.getpid()}\n".encode())
    finally:
        os.close(handle)


def notes(folder, word):
    """The cells and process numbers noted under a word."""
    lines = (Path(folder) / LOG).read_text().splitlines() if (Path(folder) / LOG).exists() else []
    return [(cell, int(pid)) for said, cell, pid in (line.split() for line in lines) if said == word]


def well(folder, cell, seconds, progress):
    """Work in ten steps and write a result that depends on the cell alone, timing aside."""
    start = time.perf_counter()
    note(folder, "start", cell)
    digest = sha256(cell.encode())
    for step in range(10):
        time.sleep(seconds / 10)
        digest.update(digest.digest())
        progress(step + 1, 10)
    items = [{"id": str(place), "output": digest.hexdigest() * 20} for place in range(20)]
    record = {"status": "ok", "reason": "", "value": digest.hexdigest()}
    ResultStore(Path(folder)).write(cell, {**record, "seconds": time.perf_counter() - start}, items)
    note(folder, "end", cell)


def raises(folder, cell, progress):
    note(folder, "start", cell)
    raise RuntimeError("this cell always raises")


def hangs(folder, cell, progress):
    note(folder, "start", cell)
    time.sleep(600)


def swells(folder, cell, progress):
    """Take 20 MB at a time, for as long as it lasts."""
    note(folder, "start", cell)
    held = []
    while len(held) < 500:
        held.append(bytearray(b"x" * 20_000_000))
        time.sleep(0.02)


ODD = {"raises": raises, "hangs": hangs, "swells": swells}


def sweep_of(folder, count, seconds, odd=None):
    """The jobs of a sweep: ``odd`` maps the place of a cell to other work."""
    jobs = []
    for place in range(count):
        name = f"cell{place:03}"
        work = (odd or {}).get(place)
        arguments = (str(folder), name) if work else (str(folder), name, seconds)
        jobs.append(Job(name, work or well, arguments, settings={"run": {"place": place}}))
    return jobs


def drive(folder, jobs, executor, stale=120.0):
    """One driver's part of a sweep; the statuses of all cells."""
    with DriverHeartbeat(Path(folder), work_of(jobs), stale) as driver:
        return Sweep(Path(folder), jobs, executor, driver, Unwatched()).run()


def executor_of(name, jobs, logs, limits):
    """An executor whose children import these jobs instead of torch."""
    preload = ("fault_jobs",)
    if name == "ray":
        from manifold_lora.experiments.executors.ray_cluster import RayExecutor

        return RayExecutor(jobs, limits, logs, preload=preload)
    if name == "slurm":
        from manifold_lora.experiments.executors.slurm import SlurmExecutor

        return SlurmExecutor(jobs, limits, logs, cluster="local", preload=preload)
    return LocalExecutor(jobs, limits, logs, preload=preload)


def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stale", type=float, default=120.0)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--memory-mb", type=int)
    for kind in ODD:
        parser.add_argument(f"--{kind}", type=int, nargs="*", default=[], help="places of cells that do")
    asked = parser.parse_args(argv)
    odd = {place: work for kind, work in ODD.items() for place in getattr(asked, kind)}
    limits = Limits(asked.timeout, asked.memory_mb)
    executor = executor_of(asked.executor, asked.jobs, asked.folder / "logs", limits)
    jobs = sweep_of(asked.folder, asked.cells, asked.seconds, odd)
    try:
        with ended_as_by_ctrl_c():
            statuses = drive(asked.folder, jobs, executor, asked.stale)
    except KeyboardInterrupt:
        return 130
    except ManifoldLoraError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if set(statuses.values()) == {"ok"} and len(statuses) == asked.cells else 1


if __name__ == "__main__":
    import fault_jobs  # children find the jobs in a module, not in this script

    sys.exit(fault_jobs.main(sys.argv[1:]))
