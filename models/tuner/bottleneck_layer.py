"""A linear layer with a small network after it, or beside it."""

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from manifold_lora.errors import LinearOnlyError, ManifoldLoraError
from manifold_lora.models.tuner.layer_support import sizes_of

NON_LINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}
PLACEMENTS = ("series", "parallel")


def refuse_merge(action: str, adapter: object) -> None:
    """Raise LinearOnlyError: a network between two linear maps is no matrix."""
    hint = "a bottleneck has a non-linearity inside; serve the adapter unmerged"
    raise LinearOnlyError(action, adapter, "adapters whose update is linear", hint)


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """y = W x + scaling U f(D z) with z = W x (series) or z = x (parallel), U = 0 at the start.

    Args:
        base_layer: the linear layer W (its bias included), n -> m.

    D is (size, m) in series and (size, n) in parallel, U is (m, size), both with biases; several active
    adapters act one after another. Source: Houlsby et al., arXiv 1902.00751 (series); He et al., arXiv
    2110.04366, table 1 (parallel); placed at linear layers as in LLM-Adapters, arXiv 2304.01933.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up", "bottleneck_dropout")
    other_param_names = ("bottleneck_config",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = sizes_of(self.get_base_layer())
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_config: dict[str, Any] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Add an adapter, as its ``BottleneckConfig`` says."""
        entry = self.out_features if config.placement == "series" else self.in_features
        up = nn.Linear(config.bottleneck_size, self.out_features)
        if config.init_weights:
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter_name] = nn.Linear(entry, config.bottleneck_size)
        self.bottleneck_up[adapter_name] = up
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.bottleneck_config[adapter_name] = config
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output (..., m) for its input x (..., n), in the dtype of the base layer's.

        ``adapter_names`` among the keywords gives each row of a mixed batch its adapter.
        """
        rows = kwargs.pop("adapter_names", None)
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        if rows is not None:
            return self._mixed(x, result, rows)
        for name in self.active_adapters:
            if name in self.bottleneck_config:
                result = self._added(name, x, result)
        return result

    def _mixed(self, x: Tensor, result: Tensor, rows: list[str]) -> Tensor:
        if len(rows) != len(x):
            raise ManifoldLoraError("adapter_names", len(rows), f"one for each of {len(x)} rows")
        for name in set(rows) & set(self.bottleneck_config):
            own = torch.tensor([row for row, wanted in enumerate(rows) if wanted == name], device=x.device)
            result = result.index_copy(0, own, self._added(name, x[own], result[own]))
        return result

    def _added(self, name: str, x: Tensor, result: Tensor) -> Tensor:
        config = self.bottleneck_config[name]
        entry = result if config.placement == "series" else x
        return result + config.scaling * self._update(name, entry, config.non_linearity).to(result.dtype)

    def _update(self, name: str, z: Tensor, non_linearity: str) -> Tensor:
        down: Any = self.bottleneck_down[name]
        hidden = NON_LINEARITIES[non_linearity](down(z.to(down.weight.dtype)))
        return self.bottleneck_up[name](self.bottleneck_dropout[name](hidden))

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raises LinearOnlyError."""
        refuse_merge("merge", adapter_names or self.active_adapters)
