"""When two results agree, and what to say when they do not."""

import math

import torch
from torch import Tensor

from manifold_lora.manifolds.testing.case import Case

SLACK = 256.0


class PropertyFailure(AssertionError):
    """A property that does not hold, with the case and the row that show it."""


class WorstErrors:
    """The largest share of its allowance that an error took, over all cases of a property."""

    def __init__(self) -> None:
        self.share, self.error = 0.0, 0.0

    def note(self, error: float, relative: float, allowed: float) -> None:
        """Keep the error that took the largest share of what was allowed."""
        share = error / allowed if allowed > 0 else (math.inf if error > 0 else 0.0)
        if share > self.share:
            self.share, self.error = share, relative


def _rows(tensor: Tensor) -> list[Tensor]:
    return list(tensor.reshape(-1, tensor.shape[-1]))


def _shown(row: Tensor) -> str:
    return "(" + ", ".join(f"{value:.9g}" for value in row[:6].tolist()) + (", ...)" if len(row) > 6 else ")")


class Check:
    """A case, and the worst errors found so far: what a property function receives."""

    def __init__(self, case: Case, worst: WorstErrors) -> None:
        self.case, self.worst = case, worst

    def agree(
        self, got: Tensor, want: Tensor | float, size: Tensor | float | None = None, slack: float = 1.0
    ) -> None:
        """Raise PropertyFailure unless every row of got is within SLACK * slack * eps * size of want.

        Args:
            got: what the geometry gave, last axis of any length.
            want: what it should be, broadcast against got.
            size: what the error is relative to, broadcast against the rows; default the row's largest entry.
            slack: multiplies the allowance.
        """
        got = got.detach().double()
        got, wanted = torch.broadcast_tensors(got, torch.as_tensor(want, dtype=torch.float64).detach())
        sizes = (
            wanted.abs().amax(-1, keepdim=True)
            if size is None
            else torch.as_tensor(size, dtype=torch.float64).detach()
        )
        sizes = sizes.expand(*got.shape[:-1], 1)
        for row, target, scale in zip(_rows(got), _rows(wanted), sizes.reshape(-1).tolist(), strict=True):
            error = (row - target).abs().max().item()
            allowed = slack * (SLACK * self.case.eps * scale + self.case.floor)
            if not error <= allowed:
                message = (
                    f"error {error:.3g}, allowed {allowed:.3g}; got {_shown(row)}, want {_shown(target)}"
                )
                raise PropertyFailure(f"{self.case}: {message}")
            self.worst.note(error, error / scale if scale > 0 else error, allowed)

    def hold(self, condition: bool, message: str) -> None:
        """Raise PropertyFailure with the case unless the condition is true."""
        if not condition:
            raise PropertyFailure(f"{self.case}: {message}")

    def finite(self, name: str, *tensors: Tensor) -> None:
        """Raise PropertyFailure at the first NaN or Inf."""
        for tensor in tensors:
            self.hold(bool(tensor.isfinite().all()), f"{name} is not finite: {_shown(tensor.flatten())}")
