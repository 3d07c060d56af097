"""A PEFT method type of our own beside the ones that ship with peft."""

from peft import PeftType


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
