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


def declare_peft_type(name: str) -> PeftType:
    """Return ``PeftType.<name>``, adding it to the enumeration if it is not there yet.

    peft keys every table (config class, tuner class, checkpoint format) by this closed enumeration and has
    no call to extend it; a value of our own is what keeps plain ``LoraConfig`` adapters untouched by us.
    """
    if name in PeftType.__members__:
        return PeftType[name]
    member = str.__new__(PeftType, name)
    member._name_ = member._value_ = name
    vars(member)["_sort_order_"] = len(PeftType)
    setattr(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    return member


MANIFOLD_LORA: PeftType = declare_peft_type("MANIFOLD_LORA")
