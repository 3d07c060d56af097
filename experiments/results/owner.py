"""Who wrote a file or holds a cell: a process, told apart from a later one with the same number."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import psutil


@dataclass(frozen=True)
class Owner:
    """A process of some machine: host (machine and process namespace), number, start time in seconds."""

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
        if self.host != _host():
            return None
        try:
            process = psutil.Process(self.pid)
            # The clock that start times are derived from may be set by a second while a process runs.
            same = abs(process.create_time() - self.started) <= 2
            return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except psutil.NoSuchProcess:
            return False


@cache
def _owner(pid: int) -> Owner:
    return Owner(_host(), pid, int(psutil.Process(pid).create_time()))


@cache
def _host() -> str:
    # Two containers may share a host name, but then number their processes apart.
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:12]
