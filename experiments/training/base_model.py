"""The base model as the settings want it: dtype, device, quantisation."""

from typing import TYPE_CHECKING, Any

from manifold_lora.experiments.settings.run import ModelSettings
from manifold_lora.experiments.training.device import device_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(settings: ModelSettings, base: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model and the tokenizer in a folder or under a hub name, on the device of this process.

    Raises ManifoldLoraError where the base or the device is missing.
    """
    from manifold_lora.models.load import load_base

    device = device_of(settings.device)
    if settings.quantization == "none":
        return load_base(base, dtype=settings.dtype, device=device)
    place: dict[str, Any] = {"device_map": {"": device}} if device else {}
    model, tokenizer = load_base(base, settings.dtype, quantization_config=_quantised(settings), **place)
    layers: list[Any] = list(model.modules())
    for module in layers:
        # On the CPU a layer of 4 bits is packed anew at the first look in eval mode, for good; what is packed
        # has no gradient any more.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def _quantised(settings: ModelSettings) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if settings.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    dtype = getattr(torch, settings.dtype)
    # nf4: Dettmers et al., QLoRA (arXiv 2305.14314), section 3.
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
