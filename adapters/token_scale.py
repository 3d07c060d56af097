"""One number per token before and after a geometry: its own curvature, or the norm of another token.

Stretching is a change of curvature. With D(kappa) = logmap0 o T o expmap0 at curvature kappa, on geometries
of constant curvature and products of those, and for every transform here,

    D(kappa lambda^2)(v) = D(kappa)(lambda v) / lambda.

So a token that goes in times lambda and comes out over lambda has met the curvature kappa lambda^2, and
nothing but a scalar per token is added to the layer of one curvature.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.adapters.norm_scaling import Calibrated
from manifold_lora.manifolds import functions

PerToken = Float[Tensor, "*tokens 1"]

# No token shrinks below this: c is 1 to the last bit of float32 there, and 1/lambda stays finite.
_SMALLEST = 1e-6


class TokenNumbers(NamedTuple):
    """lambda of each token by numpy, and how log lambda moves with log abs(x) and with what is learned."""

    factor: Any
    by_norm: Any
    by_learned: list[Any]


class TokenCurvature(Calibrated):
    """kappa_t = kappa exp(gate h_t), a curvature that follows the norm of the token.

    h_t = (|x|^2 - s^2)/(|x|^2 + s^2) = tanh(log(|x|/s)) with s = s0 exp(log_reference), s0 the median abs(x)
    where it was calibrated and sqrt(n) elsewhere.

    Both scalars are learned and start at 0, where every token has the stated kappa: gate 0 *is* the arm of
    one curvature. Near |x| = s the law is a power, kappa_t = kappa (|x|/s)^gate: a gate of -2 cancels the
    norm (all tokens equally curved, as under ``unit``), a positive one bends long tokens more. Token norms
    carry frequency and specificity (arXiv 2410.04010, section 3, whose first open question is a curvature
    that adapts), so the norm is what the gate reads. h is bounded, so kappa_t stays within kappa exp(+-gate)
    for the outlier tokens of language models too; it keeps its sign and is smooth at x = 0.

    Args:
        in_features: the width n of the input.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features)
        self.gate = nn.Parameter(torch.zeros(1))
        self.log_reference = nn.Parameter(torch.zeros(1))

    def log_factor(self, norm: PerToken) -> PerToken:
        """log(kappa_t / kappa) for tokens of these norms, in their dtype."""
        reference = torch.exp(2 * self.log_reference.to(norm.dtype)) * self.start(norm.dtype).square()
        square = norm.square()
        return self.gate.to(norm.dtype) * ((square - reference) / (square + reference))

    def in_numbers(self) -> tuple[float, float]:
        """(gate, s) as floats."""
        return self.gate.item(), math.exp(self.log_reference.item()) * self.start(None)

    def in_numpy(self, norm: Any) -> TokenNumbers:
        """``forward`` and its slopes, of numpy's numbers."""
        gate, reference = self.in_numbers()
        square = norm * norm
        total = square + reference * reference
        h = (square - reference * reference) / total
        slope = gate / 2 * (square / total * (4 * reference * reference / total))
        learned = zip((self.gate, self.log_reference), (h / 2, -slope), strict=True)
        return TokenNumbers(np.exp(gate / 2 * h), slope, [by for one, by in learned if one.requires_grad])

    def forward(self, norm: PerToken) -> PerToken:
        """lambda_t = sqrt(kappa_t / kappa)."""
        return torch.exp(self.log_factor(norm) / 2)


class ShuffledNorms(nn.Module):
    """The norm of another token of the batch for each token: what is left if norms carry no information.

    The permutation is one cycle over all tokens of the call, drawn from ``seed`` and their number: no token
    keeps its own norm, and training, evaluation and the recomputation of a checkpointed layer draw the same
    one. A layer does not see the attention mask, so tokens of padding take part; with a batch of one
    sequence a decoding step sees one token, which keeps its norm. The other token's norm is a number without
    gradient.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, norm: PerToken) -> PerToken:
        """The norms in another order."""
        flat = norm.detach().flatten()
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(flat.numel(), generator=generator).to(flat.device)
        taken = torch.empty_like(flat)
        taken[order] = flat[order.roll(1)]
        return taken.view_as(norm)

    def extra_repr(self) -> str:
        """The seed, for ``print(model)``."""
        return f"seed={self.seed}"


class TokenScale(nn.Module):
    """lambda for each token: |x'|/|x| times sqrt(kappa_t/kappa), x' the token whose norm it takes.

    With shuffled norms delta = c(x') B A x under ``direct``, where x' has the direction of x and the norm of
    another token: everything that a token's length would decide is decided by a stranger's.

    Args:
        curvature: the curvature of a token, or None where all have one.
        norms: where a token's norm comes from, or None for its own.
    """

    def __init__(self, curvature: TokenCurvature | None, norms: ShuffledNorms | None) -> None:
        super().__init__()
        self.curvature, self.norms = curvature, norms

    def forward(self, norm: PerToken) -> PerToken:
        """lambda for tokens of these norms."""
        seen = norm if self.norms is None else self.norms(norm)
        factor = 1.0 if self.curvature is None else self.curvature(seen)
        if self.norms is None:
            return factor * torch.ones_like(norm)
        stretch = torch.where(norm == 0, 1.0, functions.ratio(seen, norm)).clamp_min(_SMALLEST)
        return factor * stretch

    def learned(self) -> list[Tensor]:
        """What ``in_numpy`` has slopes by."""
        own: dict[str, Any] = {} if self.curvature is None else self.curvature._parameters
        return [one for one in own.values() if one.requires_grad]

    def in_numpy(self, norm: Any) -> TokenNumbers:
        """``forward`` and its slopes, of numpy's numbers."""
        if self.norms is None:
            assert self.curvature is not None
            return self.curvature.in_numpy(norm)
        seen = self.norms(torch.from_numpy(norm)).numpy()
        factor, learned = (1.0, []) if self.curvature is None else self.curvature.in_numpy(seen)[::2]
        stretch = np.where(norm == 0, 1.0, seen / norm)
        by_norm = np.where((norm == 0) | (stretch < _SMALLEST), 0.0, -1.0)
        return TokenNumbers(factor * np.maximum(stretch, _SMALLEST), by_norm, learned)


def token_scale(in_features: int, curved: bool, norms: str) -> TokenScale | None:
    """The scale of an adapter's parts; None where no token differs from another."""
    if not curved and norms == "own":
        return None
    curvature = TokenCurvature(in_features) if curved else None
    return TokenScale(curvature, ShuffledNorms() if norms == "shuffled" else None)
