"""Where a computation is carried: one step wider than its arguments, rounded once at the end.

bfloat16 and float16 are carried in float32, float32 in float64; float64 stays, and a geometry may add its
last digits from 106 bits (`Manifold.exactly`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import local
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

HALVES = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
# float32 is carried in float64: sinh magnifies the rounding of |v| by |v|/R, and near the edge of a ball
# the digits of 1 - |x|^2 are the geometry.
WIDER = {**HALVES, torch.float32: torch.float64}

Operation = TypeVar("Operation", bound=Callable[..., Any])


@runtime_checkable
class Carrier(Protocol):
    """What a geometry says about the precision of its own computations and the shape of its points."""

    wider: ClassVar[dict[torch.dtype, torch.dtype]]
    is_exact: ClassVar[bool]
    extra_dims: int

    @property
    def kappa(self) -> Tensor:
        """The sectional curvature, (1,)."""

    def store(self, point: Tensor, dtype: torch.dtype) -> Tensor:
        """Round a point to the dtype it is kept in, staying on the manifold."""

    def projx(self, x: Tensor) -> Tensor:
        """A point of the manifold near x."""

    def exactly(self, operation: str, *arguments: Tensor) -> Tensor | None:
        """The last digits of a float64 operation, NaN where it has none to add."""


def _common(arguments: tuple[Any, ...]) -> torch.dtype:
    dtypes = [argument.dtype for argument in arguments if isinstance(argument, Tensor)]
    kept = dtypes[0]
    for dtype in dtypes[1:]:
        kept = torch.promote_types(kept, dtype)
    return kept


def _available(dtype: torch.dtype, like: Tensor) -> torch.dtype:
    """The dtype itself, or float32 on a device that has no float64."""
    return torch.float32 if dtype == torch.float64 and like.device.type == "mps" else dtype


class _Asked(local):
    """What the outermost operation of this thread was asked for."""

    narrower = False


_ASKED = _Asked()


@contextmanager
def _narrower_asked() -> Iterator[None]:
    """While a float32 result is computed in float64: the last digits of a float64 are not looked for."""
    before, _ASKED.narrower = _ASKED.narrower, True
    try:
        yield
    finally:
        _ASKED.narrower = before


def _digits_count() -> bool:
    """Under torch.compile plain float64 has to do: its graphs stay small."""
    return not torch.compiler.is_compiling() and not _ASKED.narrower


def _refined(result: Tensor, exact: Tensor | None) -> Tensor:
    """The exact value where there is one, with the gradient of the plain formula."""
    if exact is None:
        return result
    exact = exact.detach()
    return torch.where(exact.isfinite(), result + (exact - result.detach()), result)


def carried(points: int, gives_point: bool) -> Callable[[Operation], Operation]:
    """Compute an operation in the geometry's wider dtype and round its result once.

    Args:
        points: how many leading arguments are points: rounding to half precision took them off the manifold,
            so they are projected back before use.
        gives_point: whether the result is a point, to be stored on the manifold.
    """

    def decorate(operation: Operation) -> Operation:
        if hasattr(operation, "__carried__"):
            return operation

        primitive = operation.__name__ in PRIMITIVES

        @wraps(operation)
        def carry(self: Carrier, *arguments: Any) -> Tensor:
            kept = _common(arguments)
            wide = _available(self.wider.get(kept, kept), arguments[0])
            if wide != kept:
                arguments = tuple(a.to(wide) if isinstance(a, Tensor) else a for a in arguments)
            if kept in HALVES:
                arguments = (*(self.projx(x) for x in arguments[:points]), *arguments[points:])
            # A graph looks for no last digits (`_digits_count`), and a thread's own state has no place in it.
            if wide == kept or torch.compiler.is_compiling():
                result: Tensor = operation(self, *arguments)
            else:
                with _narrower_asked():
                    result = operation(self, *arguments)
            if primitive and kept == torch.float64 and self.is_exact and _digits_count():
                exact = self.exactly(operation.__name__, *(argument.detach() for argument in arguments))
                result = _refined(result, exact)
            return self.store(result, kept) if gives_point else result.to(kept)

        carry.__carried__ = True  # type: ignore[attr-defined]
        return carry  # type: ignore[return-value]

    return decorate


# How each primitive is carried: leading points, and whether it gives one.
PRIMITIVES: dict[str, tuple[int, bool]] = {
    "expmap0": (0, True),
    "logmap0": (1, False),
    "lift": (0, True),
    "coords": (1, False),
    "projx": (0, True),
    "proju": (1, False),
    "inner": (1, False),
    "egrad2rgrad": (1, False),
    "expmap": (1, True),
    "logmap": (2, False),
    "arc": (2, False),
    "carry": (2, False),
}

# A subclass that rewrites one of these is another geometry: its parent's exact values are not its own.
FORMULAS = frozenset({*PRIMITIVES, "chart_exp", "chart_log"})
