"""Who runs in ``bench adapters``: frozen layers and models, adapted in every way that a user could choose.

Arms of ours are those of ``settings.arms``. The two compositions are what one would write today: HypLoRA by
the paper's formulas in float32, and by geoopt's maps. They are here to be measured, not to be used:
docs/accuracy.md says what they get wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import geoopt
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional

from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.experiments.bench.cost import BASELINE
from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.variant import DecodingLinear

# (tokens, in_features, out_features, rank)
Shape = tuple[int, int, int, int]
DORA, OURS, APART, FROZEN = "peft dora", "ours", "ours, each by itself", "frozen, no adapter"
# Contestants of ours and the arms they are; stereographic is direct on the space of ``bench geometry``.
_ARMS: dict[str, dict[str, Any]] = {
    OURS: ARMS["direct"],
    "boost": ARMS["boost"],
    "token": ARMS["direct-token"],
    "product": ARMS["direct-product"],
    "stereographic": {**ARMS["direct"], "manifold": {"name": "stereographic", "curvature": 0.5}},
}
OTHERS = tuple(name for name in _ARMS if name != OURS)


class _OneLayer(nn.Module):
    """What peft is given to adapt."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, m, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Frozen(nn.Module):
    """W x by torch, without an adapter."""

    def __init__(self, n: int, m: int, rank: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, m, bias=False).requires_grad_(False)

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


def configs(names: Sequence[str], rank: int, targets: list[str] | str) -> dict[str, LoraConfig]:
    """The contestants that come through peft, as many as are named."""
    common: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
    built: dict[str, LoraConfig] = {}
    for name in names:
        if name in (BASELINE, DORA):
            built[name] = LoraConfig(use_dora=name == DORA, **common)
        else:
            arm = {key: value for key, value in _ARMS[name].items() if key != "method"}
            built[name] = ManifoldLoraConfig.from_spec(AdapterSpec.parse(arm), **common)
    return built


BY_HAND: dict[str, Callable[[int, int, int], nn.Module]] = {
    FROZEN: _Frozen,
    "lora by hand": _ByHand,
    "textbook": _Textbook,
    "geoopt": _Geoopt,
}
# Whose work each of these does in another way, from the same weights.
SAME_AS = {"lora by hand": BASELINE, "textbook": OURS, "geoopt": OURS, APART: OURS}
EVERYONE = (BASELINE, DORA, OURS, *OTHERS, *BY_HAND)


def one_layer(shape: Shape, dtype: torch.dtype, names: Sequence[str] = EVERYONE) -> dict[str, nn.Module]:
    """The same layer with each adapter, trained a little: B is not zero."""
    _, n, m, rank = shape
    through_peft = configs([name for name in names if name not in BY_HAND], rank, ["layer"])
    built: dict[str, nn.Module] = {}
    for name in names:
        if name in BY_HAND:
            torch.manual_seed(0)
            built[name] = started(BY_HAND[name](n, m, rank)).to(dtype)
        else:
            built[name] = adapted(lambda: _OneLayer(n, m), through_peft[name], dtype)
    return built


def adapted(base: Callable[[], nn.Module], config: LoraConfig, dtype: torch.dtype) -> nn.Module:
    """A contestant that comes through peft, on a base whose weights all contestants have alike."""
    torch.manual_seed(0)
    return started(adapt(base(), config)).to(dtype)


def started(model: nn.Module) -> nn.Module:
    """The model with A and B that all contestants have alike, B away from zero: all have something to do."""
    generator = torch.Generator().manual_seed(0)
    for key, parameter in model.named_parameters():
        if "lora_A" in key or "lora_B" in key:
            std = parameter.shape[1] ** -0.5 if "lora_A" in key else 0.02
            values = std * torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(values)
    return model


def apart(model: nn.Module) -> nn.Module:
    """The model with every layer of ours on peft's way, where layers that read one x know nothing of it."""
    for module in model.modules():
        if type(module) is DecodingLinear:
            module.__class__ = Linear  # type: ignore[assignment]
    return model
