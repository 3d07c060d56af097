"""Makes peft aware of a method: config class, tuner class and parameter prefix under one PeftType."""

from peft import PeftConfig, PeftType
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner


def register_method(peft_type: PeftType, config_cls: type[PeftConfig], tuner_cls: type[BaseTuner]) -> None:
    """Enter a method in peft's tables, so that ``get_peft_model`` and checkpoints find it."""
    # Not peft.utils.register_peft_method: it insists on a prefix that no other method has, and MANIFOLD_LORA
    # has LoRA's on purpose (lora_A and lora_B keep their standard names, shapes and tooling).
    PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = tuner_cls.prefix
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] = config_cls
    PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = tuner_cls
