"""The machine and the version that a figure is from, as the page of costs says them."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from manifold_lora.experiments.bench.commit import commit

_CPUINFO = Path("/proc/cpuinfo")
# What decides the speed of a matrix product: vectors, bfloat16, tiles; the second row is ARM's.
INSTRUCTIONS = (
    *("avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "sve", "sve2", "bf16", "svebf16"),
)
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


@contextmanager
def one_thread() -> Iterator[None]:
    """torch has one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_pages() -> None:
    """Let the allocator keep what a layer frees, as it does in a process that has trained a model.

    glibc keeps freed memory up to twice the largest block that it has seen freed (31 MiB counts yet); before,
    a layer's tensors go back to the system and are zeroed anew in some steps and not in others.
    """
    torch.zeros(31 * 2**20, dtype=torch.uint8)


def processor() -> str:
    """The processor's name and the vector instructions that torch uses."""
    name = _field("model name") or platform.processor() or "an unnamed processor"
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def instructions() -> list[str]:
    """Those of ``INSTRUCTIONS`` that the processor has; empty where the system does not say."""
    flags = (_field("flags") or _field("Features")).split()
    return [name for name in INSTRUCTIONS if name in flags]


def has_bfloat16() -> bool:
    """Does the processor multiply in bfloat16, or does torch emulate it? True where nobody says."""
    known = instructions()
    return not known or bool(_BFLOAT16 & set(known))


def described() -> str:
    """When, on which version and on what: one sentence that follows the command."""
    had = " ".join(instructions()) or "unknown"
    lacks = "" if has_bfloat16() else ", no bfloat16 instructions"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    threads = f"torch {torch.__version__} with {torch.get_num_threads()} of {os.cpu_count()} cores"
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit('*.py')}"
    return f"{when}, on {processor()}, instructions {had}{lacks}; {threads}, load {load}"


def _field(name: str) -> str:
    """A field of the first core in /proc/cpuinfo; empty where there is none."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), ""
    )
