"""Drivers of `fault_jobs` as processes of their own, to be killed; and what they left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fault_jobs
import psutil

from manifold_lora.experiments.results.store import ResultStore, content

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


def start(folder, *flags, script="fault_jobs.py"):
    """A driver of the sweep in ``folder``."""
    command = [sys.executable, "-W", "error", str(HERE / script), str(folder), *map(str, flags)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finish(driver, seconds=240):
    """The exit code and what the driver said."""
    _, said = driver.communicate(timeout=seconds)
    return driver.returncode, said


def sweep(folder, *flags):
    """A driver from start to end."""
    return finish(start(folder, *flags))


def contents(folder):
    """What the finished cells hold, byte by byte, timing aside."""
    store = ResultStore(folder)
    return {
        record["cell"]: (json.dumps(content(record)), store.items_path(record["cell"]).read_bytes())
        for record in store.all()
        if record["status"] == "ok"
    }


def unreadable(folder):
    """Result files that do not verify, and temp files."""
    store = ResultStore(folder)
    bad = [path for path in store.results.glob("*.json") if store.read(path.stem) is None]
    return bad + list(folder.rglob("*.tmp"))


def under_way(folder):
    """Process numbers of cells that started, have not ended, and still live."""
    ended = {pid for _, pid in fault_jobs.notes(folder, "end")}
    return [
        pid for _, pid in fault_jobs.notes(folder, "start") if pid not in ended and psutil.pid_exists(pid)
    ]


def wait_until(holds, seconds=120):
    """Poll until ``holds()``."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
