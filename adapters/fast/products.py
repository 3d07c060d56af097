"""Matrix products inside the updates: float32 on x86 processors by oneDNN, everything else as torch chooses.

torch gives float32 products to MKL, which on processors that are not Intel's leaves half of AVX-512 unused:
512 x 1024 x 1024 took 10.0 ms, and 4.5 by oneDNN (AMD EPYC 9005, one thread; limited to AVX2 10.5 and 9.2).
The operation has no derivative: it serves inside autograd functions, and where there is no graph.
"""

import platform

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.numbers import backend, is_transformed

_HERE = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
# Multiplications under which setting up oneDNN costs more than it saves.
_FEWEST = 2**20


def product(a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]) -> Float[Tensor, "n m"]:
    """a b."""
    if not _by_onednn(a, b):
        return a @ b
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(a, b.T, None, "none", [], "")
    return found


def plus_product(
    c: Float[Tensor, "n m"], a: Float[Tensor, "n k"], b: Float[Tensor, "k m"]
) -> Float[Tensor, "n m"]:
    """c + a b, maybe over c."""
    if not (_by_onednn(a, b) and _is_dense(c)):
        return c.addmm_(a, b)
    found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(a, c, b.T, None, "add")
    return found


def _by_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        _HERE
        and a.dtype == torch.float32 == b.dtype
        and backend(a) is np
        and backend(b) is np
        and a.shape[0] * b.numel() >= _FEWEST
        and not torch.is_grad_enabled()
        and bool(torch.backends.mkldnn.enabled)
        and _is_dense(a)
        and _is_dense(b)
        and not is_transformed()
    )


def _is_dense(a: Tensor) -> bool:
    # oneDNN has no quick way for a part of a wider matrix.
    return a.is_contiguous() or a.T.is_contiguous()
