"""The GPUs of this machine, lent to the children that run on it."""

import os
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Devices:
    """Hands out ``each`` GPUs to every job, and takes them back."""

    def __init__(self, free: list[str], each: int) -> None:
        self.free, self.each = free, each

    @classmethod
    def of_machine(cls, each: float, jobs: int) -> "Devices":
        """The GPUs that this process may see; with ``each`` = 0 nothing is handed out: all see all.

        Raises ManifoldLoraError for a fraction, and for fewer GPUs than ``jobs * each``.
        """
        if each != int(each):
            raise ManifoldLoraError("execution.gpus of the local executor", each, "0 or a whole number")
        named = os.environ.get(VISIBLE)
        files = sorted(Path("/dev").glob("nvidia[0-9]*"), key=lambda path: (len(path.name), path.name))
        found = [str(place) for place in range(len(files))] if named is None else named.split(",")
        found = [name.strip() for name in found if name.strip() not in ("", "-1")]
        if jobs * each > len(found):
            hint = "lower --jobs or execution.gpus"
            raise ManifoldLoraError("GPUs", int(jobs * each), f"at most {len(found)}", hint)
        return cls(found, int(each))

    def lend(self) -> dict[str, str]:
        """The environment of a child with its GPUs."""
        if not self.each:
            return {}
        taken, self.free = self.free[: self.each], self.free[self.each :]
        return {VISIBLE: ",".join(taken)}

    def take_back(self, environment: dict[str, str]) -> None:
        """Of a child that has ended."""
        self.free += environment[VISIBLE].split(",") if environment else []
