"""Who wrote a file or holds a cell: a process, distinguished from a later one with the same number."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Owner:
    """A process of some machine: host (machine and process namespace), number, start (see `_start`)."""

    host: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        return _owner(os.getpid())

    @classmethod
    def parse(cls, tag: str) -> "Owner | None":
        """Read a `tag` back; None for any other text."""
        host, _, rest = tag.partition("-")
        pid, _, started = rest.partition("-")
        return cls(host, int(pid), int(started)) if pid.isdecimal() and started.isdecimal() else None

    @property
    def tag(self) -> str:
        """The owner as part of a file name."""
        return f"{self.host}-{self.pid}-{self.started}"

    def alive(self) -> bool | None:
        """Whether the process still runs; None if it is another machine's, of which this one cannot tell."""
        return _start(self.pid) == self.started if self.host == _host() else None


@cache
def _owner(pid: int) -> Owner:
    return Owner(_host(), pid, _start(pid) or 0)


def _start(pid: int) -> int | None:
    """When a process began; None where none of that number runs.

    On Linux in clock ticks since the machine started, which no step of the clock moves; elsewhere in seconds.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _start_elsewhere(pid)
    # Behind the name, which may hold brackets and blanks: the state, and the start as the 22nd of all fields.
    state, *numbers = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])


def _start_elsewhere(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.NoSuchProcess:
        return None


@cache
def _host() -> str:
    # Two containers may share a host name, but then number their processes apart.
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:12]
