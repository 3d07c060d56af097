"""Safetensors files of unknown origin: looked at before they are read, and read without running anything."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from manifold_lora.errors import ManifoldLoraError

# An adapter of a thousand layers has a header of some 200 kB.
MAX_HEADER = MAX_JSON = 16 * 2**20
# Types that torch computes with; fp8 and packed types have no isfinite, and no adapter is saved in them.
_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128}


def check_header(path: Path) -> None:
    """Raise ManifoldLoraError unless the file begins as a safetensors file with a header of sane size."""
    if not path.is_file():
        raise _refused(path, "it is a folder or a device")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from error
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:] != b"{":
        raise _refused(path, "its first bytes are no safetensors header (a pickle renamed?)")
    if length > min(MAX_HEADER, size - 8):
        raise _refused(path, f"its header claims {length} bytes, of a file of {size}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of the file, on the CPU; raises ManifoldLoraError for a damaged file."""
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _refused(path, f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error


def check_finite(what: str, tensors: dict[str, Tensor]) -> None:
    """Raise ManifoldLoraError naming the first tensor that holds NaN or Inf, or is of a type like fp8."""
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        if tensor.dtype not in _NUMBERS:
            allowed = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in _NUMBERS))
            raise ManifoldLoraError(what, f"{tensor.dtype} in {name}".removeprefix("torch."), allowed)
        if not torch.isfinite(tensor).all():
            raise ManifoldLoraError(what, f"NaN or Inf in {name}", "finite numbers")


def read_json(path: Path, what: str) -> dict[str, object]:
    """The object in a JSON file; raises ManifoldLoraError for anything else, NaN, infinity and
    keys given twice included."""
    if not path.is_file() or path.stat().st_size > MAX_JSON:
        raise ManifoldLoraError(what, str(path), f"a file of at most {MAX_JSON} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_each_once)
    except (OSError, ValueError, RecursionError) as error:
        raise ManifoldLoraError(
            what, str(path), "a JSON object", f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(data, dict):
        raise ManifoldLoraError(what, str(path), "a JSON object", f"it holds a {type(data).__name__}")
    return data


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError(f"a key is given twice among {', '.join(key for key, _ in pairs)[:100]}")
    return data


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _refused(path: Path, reason: str) -> ManifoldLoraError:
    return ManifoldLoraError("weights file", str(path), "a whole safetensors file", reason)
