"""peft's adapted linear layer with a short way for a single token, as in decoding."""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear

from manifold_lora.models.variant import ManifoldVariant, of_one_token


class DecodingLinear(Linear):
    """``peft.tuners.lora.Linear``, equal to it in everything but the price of a token.

    What peft asks before it adds an adapter (mixed batches, merged and disabled adapters, several at once)
    costs as much as the adapter itself where there is one token. Here one look tells that none of it is the
    case; whatever else is asked goes peft's way.
    """

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The adapted output (..., m) of x (..., n)."""
        if x.numel() == x.shape[-1] and not (args or kwargs or torch.is_grad_enabled()):
            told = self._of_one_token(x)
            if told is not None:
                return told
        output: torch.Tensor = super().forward(x, *args, **kwargs)
        return output

    def _of_one_token(self, x: torch.Tensor) -> torch.Tensor | None:
        active: Any = self._active_adapter
        if (
            len(active) != 1
            or self._disable_adapters
            or self.merged_adapters
            or torch.compiler.is_compiling()
        ):
            return None
        (name,) = active
        if type(self.lora_variant.get(name)) is not ManifoldVariant:
            return None
        return of_one_token(self, name, x)


def decoding(layer: Any) -> None:
    """Let a plain linear layer take the short way."""
    if type(layer) is Linear:
        layer.__class__ = DecodingLinear
