"""The adapter methods by name, and what is known of each before torch is imported."""

from typing import Any

from manifold_lora.registry import Registry

# A part builds the PEFT config from (AdapterSettings, gains by module, kappas by module, steps).
# geometry: whether it has one, and reads the settings of one; gain: whether it copies another arm's gain.
METHODS: Registry[Any] = Registry("method", "manifold_lora.methods")
_HOME = "manifold_lora.experiments.methods"
for _name, _part, _facts in (
    ("manifold_lora", "config:curved", {"geometry": True}),
    ("lora", "baselines:lora", {}),
    ("dora", "baselines:lora", {}),
    ("gain_matched_lora", "baselines:lora", {"gain": True}),
    ("adalora", "baselines:adalora", {}),
    ("prefix", "baselines:prefix", {}),
    ("series", "baselines:bottleneck", {}),
    ("parallel", "baselines:bottleneck", {}),
):
    METHODS.declare(_name, f"{_HOME}.{_part}", **_facts)
# Any other method of peft, by the name of its PeftType: peft.oft.
PEFT = "peft."


def check_method(name: str) -> str:
    """The name, if it is known or one of peft's. Raises UnknownNameError."""
    return name if name.startswith(PEFT) and name != PEFT else METHODS.check(name)


def has_geometry(name: str) -> bool:
    """Whether a method reads manifold, curvature, transform and scalings."""
    return not name.startswith(PEFT) and bool(METHODS.metadata(name).get("geometry"))


def needs_gain(name: str) -> bool:
    """Whether a method copies the measured gain of another arm."""
    return not name.startswith(PEFT) and bool(METHODS.metadata(name).get("gain"))
