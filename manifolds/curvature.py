"""Sectional curvature as a module: fixed, learned with its sign kept, or free to pass through zero."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.numbers import is_number

Mode = Literal["fixed", "learned", "free"]
MODES = ("fixed", "learned", "free")


class Curvature(nn.Module):
    """A signed sectional curvature kappa; the value stated is the value in effect.

    ``fixed`` keeps it in a buffer; ``learned`` is kappa0 * exp(raw) with raw = 0 at the start, so the sign
    stays; ``free`` optimises kappa itself, through zero. Stored as float32 of shape (1,) whatever the model
    is cast to (float64 after ``.double()``).

    Args:
        kappa: the stated value, -1/K in the notation of HypLoRA (arXiv 2410.04010).
        mode: ``"fixed"``, ``"learned"`` or ``"free"``.

    Raises:
        CurvatureError: kappa is not finite, or 0 and learned.
        ManifoldLoraError: unknown mode.
    """

    def __init__(self, kappa: float, mode: Mode = "fixed") -> None:
        super().__init__()
        if mode not in MODES:
            raise ManifoldLoraError("curvature mode", mode, MODES)
        if not is_number(kappa):
            raise CurvatureError("kappa", kappa, "a finite number")
        self._held: Tensor | None = None
        stored = torch.tensor([float(kappa)], dtype=torch.float32)
        if mode == "learned" and stored.item() == 0.0:
            raise CurvatureError("learned kappa", kappa, "a non-zero number", "mode 'free' may start at 0")
        self.mode, self.stated = mode, float(kappa)
        # float32 forgets the last digits of the stated value; float64 geometry adds them back.
        self._residue = self.stated - stored.item()
        if mode == "fixed":
            self.register_buffer("raw", stored)
        else:
            self.raw = nn.Parameter(stored if mode == "free" else torch.zeros(1))

    def at(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """kappa in the given dtype, differentiable with respect to ``raw``."""
        if self._held is not None and self._held.dtype == dtype:
            return self._held
        raw = self.raw.to(dtype)
        return self.stated * torch.exp(raw) if self.mode == "learned" else raw + self._residue

    def number(self) -> float:
        """kappa as a Python float, right to float64; waits for a device to answer."""
        # Not self.raw: nn.Module's look-up of attributes would be a tenth of a decoded token's adapter.
        learned = self._parameters.get("raw")
        raw = (self._buffers["raw"] if learned is None else learned).item()  # type: ignore[union-attr]
        return self.stated * math.exp(raw) if self.mode == "learned" else raw + self._residue

    @property
    def kappa(self) -> Float[Tensor, "1"]:
        """kappa in the stored dtype, shape (1,)."""
        return self.at(self.raw.dtype)

    @torch.no_grad()
    def assign(self, kappa: float) -> None:
        """Put kappa into effect, rounded to the stored dtype; what is learned goes on from there.

        Raises:
            CurvatureError: kappa is not finite, or has not the sign that a learned one keeps.
        """
        if not is_number(kappa):
            raise CurvatureError("kappa", kappa, "a finite number")
        if self.mode == "learned" and not kappa / self.stated > 0:
            raise CurvatureError("learned kappa", kappa, f"a number of the sign of {self.stated:g}")
        self.raw.fill_(math.log(kappa / self.stated) if self.mode == "learned" else kappa - self._residue)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Curvature":
        def keep_wide(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            half = moved.is_floating_point() and moved.dtype.itemsize < torch.float32.itemsize
            return tensor.to(device=moved.device) if half else moved

        super()._apply(keep_wide, recurse)
        return self

    def extra_repr(self) -> str:
        """Stated value and mode, for ``print(model)``."""
        return f"kappa={self.stated:g}, mode={self.mode}"


@contextmanager
def held(module: nn.Module, dtype: torch.dtype = torch.float64) -> Iterator[None]:
    """Inside, each learned curvature of a module is one tensor: its gradients are summed in dtype.

    On a sphere they cancel to a^2 of their size, of which the float32 of ``raw`` leaves nothing at small a.
    """
    learned = [part for part in module.modules() if isinstance(part, Curvature) and part.raw.requires_grad]
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        learned = []
    for part in learned:
        part._held = part.at(dtype)
    try:
        yield
    finally:
        for part in learned:
            part._held = None
