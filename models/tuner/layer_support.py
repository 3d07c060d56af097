"""Which layers can carry a manifold adapter, and the reason why each of the others cannot."""

import inspect

from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lora.model import get_tp_plan_and_mesh
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from manifold_lora.errors import ManifoldLoraError

SUPPORTED = "linear layers: torch.nn.Linear, GPT-2's Conv1D, bitsandbytes, torchao, GPTQ, HQQ"

# peft's layer classes whose forward asks the variant. Every other one would silently run plain LoRA.
_LAYERS = {
    "peft.tuners.lora.layer.Linear",
    "manifold_lora.models.tuner.variant.DecodingLinear",
    "peft.tuners.lora.bnb.Linear8bitLt",
    "peft.tuners.lora.bnb.Linear4bit",
    "peft.tuners.lora.torchao.TorchaoLoraLinear",
    "peft.tuners.lora.gptq.GPTQLoraLinear",
    "peft.tuners.lora.hqq.HqqLoraLinear",
}
_SHARD = "it is one shard of a tensor-parallel layer, so the norm of its input would be local"
_QUANTISED = {"BaseQuantLinear", "HQQLinear"}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def unsupported_reason(module: nn.Module) -> str | None:
    """Why a module cannot be adapted, in a clause; None if it can."""
    if isinstance(module, BaseTunerLayer):
        return unsupported_layer_reason(module) or unsupported_reason(module.get_base_layer())
    return _SHARD if getattr(module, "_hf_tp_plan", None) else _by_class(module)


def shard_reason(model: nn.Module, name: str) -> str | None:
    """Why one layer of a model that transformers runs tensor-parallel cannot be adapted; None if it can.

    The plan is the model's: the weights are DTensors, but so are those of FSDP2, whose layers see whole
    vectors.
    """
    plan, _ = get_tp_plan_and_mesh(model, name) if hasattr(model, "config") else (None, None)
    return _SHARD if plan is not None else None


def bypass_reason(model: nn.Module, name: str) -> str | None:
    """Why a projection of a state-space (Mamba) mixer cannot be adapted; None for those that can, and others.

    peft refuses ``out_proj`` by a list of model types, for its own methods only. Every such mixer has the
    parameters ``A_log`` and ``D``; the kinds differ in which weights their code reads.
    """
    parent, _, leaf = name.rpartition(".")
    if leaf not in ("out_proj", "dt_proj"):
        return None
    mixer = model.get_submodule(parent)
    if not {"A_log", "D"} <= set(mixer._parameters):
        return None
    try:
        reads = f"self.{leaf}.weight" in inspect.getsource(type(mixer))
    except (OSError, TypeError):
        # No source to look at: a mixer of unknown kind.
        reads = True
    kind = type(mixer).__name__
    return f"{kind} hands {leaf}.weight to a state-space kernel without calling the layer" if reads else None


def _by_class(module: nn.Module) -> str | None:
    name = type(module).__name__
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear | nn.MultiheadAttention):
        return "torch computes nn.MultiheadAttention in one call that never runs the adapted projection"
    if isinstance(module, nn.Linear | Conv1D) or _QUANTISED & {cls.__name__ for cls in type(module).__mro__}:
        return None
    if isinstance(module, nn.Embedding):
        return "an embedding looks rows up: there is no input vector to put on a manifold"
    if isinstance(module, _CONVOLUTIONS):
        return "a convolution mixes neighbouring vectors: there is no one norm to scale"
    if has_fused_experts(module):
        return f"{name} holds fused mixture-of-experts weights (3-dimensional parameters), not linear layers"
    if next(module.children(), None) is not None:
        return f"{name} is a block of layers; name the linear layers inside it"
    return f"{name} is no linear layer that runs LoRA variants"


def has_fused_experts(module: nn.Module) -> bool:
    """Whether a module itself holds 3-dimensional weights, as fused mixtures of experts do."""
    own = module.parameters(recurse=False)
    return not isinstance(module, _CONVOLUTIONS) and any(parameter.dim() == 3 for parameter in own)


def unsupported_layer_reason(layer: nn.Module) -> str | None:
    """Why peft's adapter layer cannot run a manifold variant; None if it can."""
    path = f"{type(layer).__module__}.{type(layer).__qualname__}"
    if path in _LAYERS:
        return None
    return f"peft's {type(layer).__qualname__} ignores LoRA variants and would silently train plain LoRA"


def check_layer(layer: nn.Module, name: str) -> nn.Module:
    """Return the layer that peft built, or raise ManifoldLoraError if it would ignore the geometry."""
    reason = unsupported_layer_reason(layer) if isinstance(layer, LoraLayer) else "it is no LoRA layer"
    if reason:
        raise ManifoldLoraError("target module", name, SUPPORTED, reason)
    return layer


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer stores its weight as (in, out), as GPT-2's Conv1D does."""
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    return isinstance(base, Conv1D)


def sizes_of(module: nn.Module) -> tuple[int, int]:
    """(in, out) features of a linear layer of any supported class."""
    if isinstance(module, Conv1D):
        return module.weight.shape[0], module.weight.shape[1]
    return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]
