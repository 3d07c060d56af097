"""The LoRA variant that sends one layer's update through its manifold."""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraVariant
from peft.utils.other import transpose
from torch import nn
from torch.nn.modules.module import _global_forward_hooks, _has_any_global_hook

from manifold_lora.adapters.fast.few_tokens import MOST
from manifold_lora.adapters.framed import FramedWeights
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import LinearOnlyError

# peft's LoraLayer is mixed into modules and does not say so to a type checker.
Layer = Any

CONTAINER = "lora_manifold"
# Of the adapters with a weight_manifold; a name from which peft finds the end of a layer's.
CORE = "lora_core"
WHY_NOT_LINEAR = "its update depends on the norm of each token, so no weight matrix equals it"
EXPORT = (
    "manifold_lora.models.export_lora(model, fit_layers(model, seen, held_out), folder) writes the nearest "
    "LoRA on text"
)


class ManifoldVariant(LoraVariant):
    """y = W x + scaling * update(dropout(x), A, B), with ``update`` from ``layer.lora_manifold``."""

    def __init__(self, is_linear: bool) -> None:
        self.is_linear = is_linear

    def supports_lora_conversion(self) -> bool:
        """True: plain LoRA weights say the same. Raises LinearOnlyError for an adapter that is not linear."""
        if not self.is_linear:
            hint = f"{WHY_NOT_LINEAR}; {EXPORT}"
            raise LinearOnlyError("convert_to_lora", "a curved adapter", "linear adapters", hint)
        return True

    @staticmethod
    def init(module: Layer, adapter_name: str, **kwargs: Any) -> None:
        """Nothing: ``attach`` has built the geometry before the variant is in place."""

    @staticmethod
    def forward(
        module: Layer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """The layer's whole output (..., m) from its input x (..., n) and the base output (..., m)."""
        lora_A, lora_B = factors(module, active_adapter)
        update, scaling = getattr(module, CONTAINER)[active_adapter], module.scaling[active_adapter]
        x = module.lora_dropout[active_adapter](x)
        if x.dtype == result.dtype:
            in_place = is_fresh(module.base_layer)
            return update(x, lora_A, lora_B, base=result, scaling=scaling, in_place=in_place)
        return result + update(x, lora_A, lora_B, scaling=scaling)

    @staticmethod
    def merge_safe(module: Layer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """A new weight with the adapter added. Raises LinearOnlyError for a non-linear adapter."""
        return orig_weight + delta_weight(module, active_adapter).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Layer, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """Add the adapter to the weight in place. Raises LinearOnlyError before any change."""
        orig_weight.data += delta_weight(module, active_adapter).to(orig_weight.dtype)

    @staticmethod
    def unmerge(module: Layer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """The weight without the adapter."""
        return orig_weight.data - delta_weight(module, active_adapter).to(orig_weight.dtype)


def of_few_tokens(layer: Layer, adapter: str, x: torch.Tensor) -> torch.Tensor | None:
    """A layer's output for few tokens without gradient or dropout; None where peft's way has to serve."""
    # The dictionaries themselves: nn.Module's look-up of attributes is a part of the price of few tokens.
    parts = layer._modules
    dropout = parts["lora_dropout"]._modules[adapter]
    if dropout.training and type(dropout) is not nn.Identity:
        return None
    lora_A, lora_B = factors(layer, adapter)
    update: ManifoldUpdate = parts[CONTAINER]._modules[adapter]
    if not update.serves_few_tokens(x, lora_A):
        return None
    return update.of_few_tokens(x, lora_A, lora_B, parts["base_layer"](x), layer.scaling[adapter])


def factors(layer: Layer, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) as the geometry takes them: A is core A under a weight manifold."""
    parts = layer._modules
    lora_A, lora_B = parts["lora_A"]._modules[adapter].weight, parts["lora_B"]._modules[adapter].weight
    framed = parts[CORE]._modules.get(adapter) if CORE in parts else None
    return (lora_A if framed is None else framed.down(lora_A)), lora_B


def is_fresh(base: nn.Module) -> bool:
    """Whether nobody but its caller can hold the output of a layer: no class that may keep it, no hook."""
    return type(base) is nn.Linear and not base._forward_hooks and not _global_forward_hooks


def attach(
    layer: Layer, adapter_name: str, update: ManifoldUpdate, weights: FramedWeights | None = None
) -> None:
    """Give one adapter of a LoRA layer its geometry, the variant that uses it, and maybe a core."""
    if not hasattr(layer, CONTAINER):
        _add(layer, CONTAINER)
        # Everything that linearises an adapter asks this method, torchao's merge included, which never asks
        # the variant.
        layer.get_delta_weight = partial(delta_weight, layer)
    getattr(layer, CONTAINER)[adapter_name] = update
    if weights is not None:
        if not hasattr(layer, CORE):
            _add(layer, CORE)
        getattr(layer, CORE)[adapter_name] = weights
        weights.start(layer.lora_A[adapter_name].weight, layer.lora_B[adapter_name].weight)
    layer.lora_variant[adapter_name] = ManifoldVariant(update.is_linear)
    layer._move_adapter_to_device_of_base_layer(adapter_name)


def _add(layer: Layer, container: str) -> None:
    layer.add_module(container, nn.ModuleDict())
    # peft walks these names to switch, freeze, move and delete an adapter.
    layer.adapter_layer_names = (*layer.adapter_layer_names, container)


def delta_weight(layer: Layer, adapter: str) -> torch.Tensor:
    """The weight that a linear adapter adds, in the layout of the base weight.

    Raises LinearOnlyError for an adapter whose update is not linear in its input.
    """
    if adapter not in getattr(layer, CONTAINER):
        return type(layer).get_delta_weight(layer, adapter)
    update = getattr(layer, CONTAINER)[adapter]
    if not update.is_linear:
        raise LinearOnlyError("merge", adapter, "adapters whose update is linear", WHY_NOT_LINEAR)
    lora_A, lora_B = (factor.float() for factor in factors(layer, adapter))
    # A linear map is its values on a basis: exact for every linear arm, whatever factor it carries.
    columns = update(torch.eye(layer.in_features, device=lora_A.device), lora_A, lora_B)
    return transpose(columns.T, getattr(layer, "fan_in_fan_out", False)) * layer.scaling[adapter]


def is_plain(layer: Layer, adapter: str) -> bool:
    """Whether a linear adapter adds exactly scaling * B A, as a plain LoRA of the same weights would."""
    plain = type(layer).get_delta_weight(layer, adapter)
    return torch.allclose(delta_weight(layer, adapter), plain, rtol=1e-4, atol=1e-7)


def of_whole_layer(layer: Layer, adapter: str, x: torch.Tensor) -> torch.Tensor | None:
    """A layer's whole output in training, base product included; None where peft's way has to serve.

    That is: under dropout, for a base that is no plain frozen ``nn.Linear`` (quantised, transposed,
    offloaded, sharded by itself) or that somebody listens to, and in what ``fused.serves_layer`` leaves out.
    """
    parts = layer._modules
    dropout, base = parts["lora_dropout"]._modules[adapter], parts["base_layer"]
    if (dropout.training and type(dropout) is not nn.Identity) or not _is_heard_by_none(base):
        return None
    weights = factors(layer, adapter)
    update: ManifoldUpdate = parts[CONTAINER]._modules[adapter]
    return update.of_layer(x, base.weight, base.bias, *weights, layer.scaling[adapter])


def _is_heard_by_none(base: nn.Module) -> bool:
    """Whether W x + b is all that a call of this layer does: no forward of its own, no hook of any kind."""
    hooks: Any = vars(base)
    listeners = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        type(base) is nn.Linear
        and "forward" not in hooks
        and not any(hooks[name] for name in listeners)
        and not _has_any_global_hook()
    )


class DecodingLinear(Linear):
    """``peft.tuners.lora.Linear``, equal to it in everything but the price.

    What peft asks before it adds an adapter (mixed batches, merged and disabled adapters, several at once)
    costs as much as the adapter itself where there are few tokens, and keeps the base's product apart from
    the update's in training. Here one look tells that none of it is the case; whatever else is asked goes
    peft's way.
    """

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The adapted output (..., m) of x (..., n)."""
        if not (args or kwargs):
            by_itself = self._by_itself(x)
            if by_itself is not None:
                return by_itself
        output: torch.Tensor = super().forward(x, *args, **kwargs)
        return output

    def _by_itself(self, x: torch.Tensor) -> torch.Tensor | None:
        graph = torch.is_grad_enabled()
        if torch.compiler.is_compiling() or (not graph and x.numel() > MOST * x.shape[-1]):
            return None
        active: Any = self._active_adapter
        if len(active) != 1 or self._disable_adapters or self.merged_adapters:
            return None
        (name,) = active
        if type(self.lora_variant.get(name)) is not ManifoldVariant:
            return None
        return of_whole_layer(self, name, x) if graph else of_few_tokens(self, name, x)


def decoding(layer: Any) -> None:
    """Let a plain linear layer take the short way."""
    if type(layer) is Linear:
        layer.__class__ = DecodingLinear
