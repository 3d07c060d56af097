"""Compiles every launch of the Triton path for a GPU that is not there: ``python triton_compiled.py 80 90``.

Prints a JSON object a launch: what it needs of a processor, by Triton's own compiler and NVIDIA's assembler.
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from manifold_lora.adapters.cuda import launch

TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}
LAUNCHES: list[tuple[JITFunction, tuple[Any, ...], dict[str, Any]]] = []


def record(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    """In place of JITFunction.run."""
    LAUNCHES.append((self, args, kwargs))


def source(kernel: JITFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ASTSource:
    """The kernel specialised as a launch would do it, large sizes being multiples of 16."""
    given = dict(zip(kernel.arg_names, args, strict=False))
    given |= {name: value for name, value in kwargs.items() if name in kernel.arg_names}
    signature, constants, aligned = {}, {}, {}
    for at, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        signature[parameter.name] = "*" + TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        if isinstance(value, torch.Tensor) or value % 16 == 0:
            aligned[(at,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, aligned)


def launches(dtype: torch.dtype, rank: int, kind: str, unit: bool) -> None:
    """One forward and one backward pass of 64 tokens and width 256."""
    x, A, gram = (
        torch.zeros(64, 256, dtype=dtype),
        torch.zeros(rank, 256, dtype=dtype),
        torch.zeros(rank, rank),
    )
    one = torch.ones(1, dtype=torch.float64)
    infinity = float("inf")
    bounds = {
        "hyperbolic": (300.0, infinity),
        "ball": (600.0, 0.9),
        "spherical": (infinity, 0.9),
        "round": (infinity, infinity),
    }
    constants = launch.Constants(one, one, one, kind, unit, *bounds[kind], limit=3.0, bent=-0.3)
    u, square = launch.project(x, A)
    launch.cross(u, u)
    launch.gains(u, gram.double(), square, constants)
    found = launch.slopes(u, u, gram.double(), square, constants)
    launch.pull_back(x, A, found.dU, found.along, True, True)


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and bytes of stack, where spills go, from the disassembler in Triton's wheel."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", log)}


def main() -> None:
    """The usual case, and the one that asks most of a processor."""
    JITFunction.run = record
    launches(torch.bfloat16, 32, "hyperbolic", False)
    launches(torch.float32, 256, "spherical", True)
    for capability in map(int, sys.argv[1:]):
        for kernel, args, kwargs in LAUNCHES:
            options = {name: kwargs[name] for name in ("num_warps", "num_stages") if name in kwargs}
            compiled = triton.compile(
                source(kernel, args, kwargs), target=GPUTarget("cuda", capability, 32), options=options
            )
            message = {"kernel": kernel.fn.__name__, "sm": capability, "shared": compiled.metadata.shared}
            message["dtype"] = str(args[0].dtype)
            print(json.dumps(message | resources(compiled.asm["cubin"])), flush=True)


if __name__ == "__main__":
    main()
