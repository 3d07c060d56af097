"""Who runs in ``bench adapters``: one frozen linear layer, adapted in every way that a user could choose.

The two compositions are what one would write today: HypLoRA by the paper's formulas in float32, and by
geoopt's maps. They are here to be measured, not to be used: docs/accuracy.md says what they get wrong.
"""

from collections.abc import Callable
from typing import Any

import geoopt
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional

from manifold_lora.adapters.spec import HYPLORA
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig

# (tokens, in_features, out_features, rank)
Shape = tuple[int, int, int, int]
BASELINE = "peft lora"
OURS = "ours"


class _OneLayer(nn.Module):
    """What peft is given to adapt."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, m, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _ByHand(nn.Module):
    """W x + 2 delta(x) with a delta of its own, and none of peft's calls around it."""

    def __init__(self, n: int, m: int, rank: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, m, bias=False).requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, n) / n**0.5)
        self.lora_B = nn.Parameter(torch.zeros(m, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + 2.0 * self.delta(x)

    def delta(self, x: Tensor) -> Tensor:
        """B A x: LoRA."""
        return functional.linear(functional.linear(x, self.lora_A), self.lora_B)


class _Textbook(_ByHand):
    """HypLoRA by the paper's formulas: points with their time coordinate, logmap0 by acosh."""

    def __init__(self, n: int, m: int, rank: int) -> None:
        super().__init__(n, m, rank)
        self.scale = nn.Parameter(torch.full((1,), n**0.5))

    def delta(self, x: Tensor) -> Tensor:
        v = (x / self.scale).float()
        length = v.norm(dim=-1, keepdim=True).clamp_min(1e-7)
        point = torch.cat([length.cosh(), length.sinh() / length * v], -1)
        down = self._on_manifold(functional.linear(point[..., 1:], self.lora_A.float()))
        up = self._on_manifold(functional.linear(down[..., 1:], self.lora_B.float()))
        space, time = up[..., 1:], up[..., :1]
        size = space.norm(dim=-1, keepdim=True).clamp_min(1e-7)
        return (torch.acosh(time.clamp_min(1 + 1e-7)) / size * space * self.scale).to(x.dtype)

    @staticmethod
    def _on_manifold(space: Tensor) -> Tensor:
        return torch.cat([(1 + space.square().sum(-1, keepdim=True)).sqrt(), space], -1)


class _Geoopt(_Textbook):
    """HypLoRA by geoopt's maps."""

    def __init__(self, n: int, m: int, rank: int) -> None:
        super().__init__(n, m, rank)
        self.manifold = geoopt.Lorentz()

    def delta(self, x: Tensor) -> Tensor:
        v = (x / self.scale).float()
        point = self.manifold.expmap0(functional.pad(v, (1, 0)))
        down = self.manifold.projx(
            functional.pad(functional.linear(point[..., 1:], self.lora_A.float()), (1, 0))
        )
        up = self.manifold.projx(
            functional.pad(functional.linear(down[..., 1:], self.lora_B.float()), (1, 0))
        )
        return (self.manifold.logmap0(up)[..., 1:] * self.scale).to(x.dtype)


def configs(rank: int, targets: list[str] | str) -> dict[str, LoraConfig]:
    """The contestants that come through peft."""
    common: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    return {
        BASELINE: LoraConfig(**common),
        "peft dora": LoraConfig(use_dora=True, **common),
        OURS: ManifoldLoraConfig.from_spec(HYPLORA, **common),
    }


BY_HAND: dict[str, Callable[[int, int, int], nn.Module]] = {
    "lora by hand": _ByHand,
    "textbook": _Textbook,
    "geoopt": _Geoopt,
}


def one_layer(shape: Shape, dtype: torch.dtype) -> dict[str, nn.Module]:
    """The same layer with each adapter, trained a little: B is not zero."""
    _, n, m, rank = shape
    built: dict[str, nn.Module] = {}
    for name, config in configs(rank, ["layer"]).items():
        torch.manual_seed(0)
        built[name] = adapt(_OneLayer(n, m).to(dtype), config).to(dtype)
    for name, build in BY_HAND.items():
        torch.manual_seed(0)
        built[name] = build(n, m, rank).to(dtype)
    for model in built.values():
        started(model)
    return built


def started(model: nn.Module) -> nn.Module:
    """The model with every B away from zero, where DoRA and the geometry have something to do."""
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.02)
    return model
