"""Which numbers geometry is computed in, whatever the model was cast to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def geometry_dtype(x: Tensor) -> torch.dtype:
    """float64 for a float64 input, float32 for every other: bfloat16 has 8 bits, a curvature needs more."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@contextmanager
def autocast_off(x: Tensor) -> Iterator[None]:
    """Compute in the dtypes given, on the device of ``x``."""
    with torch.autocast(device_type=x.device.type, enabled=False):
        yield


def keeping_float32(cast: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function ``cast`` of ``nn.Module._apply``, except that float32 is not rounded to half precision."""

    def apply(tensor: Tensor) -> Tensor:
        result = cast(tensor)
        if result.dtype not in (torch.bfloat16, torch.float16):
            return result
        return result.float() if tensor.is_meta else tensor.to(result.device)

    return apply
