"""Names of transforms and norm scalings; importing this module does not import torch."""

from typing import Any

from manifold_lora.numbers import is_number
from manifold_lora.registry import Registry

# linear: is x -> delta a matrix? "always", "flat" (where the chart is the identity) or "never".
# time: does the transform act on a time coordinate, so that only geometries with one have it?
TRANSFORMS: Registry[Any] = Registry("transform", "manifold_lora.transforms")
for _name, _class, _linear, _time in (
    ("tangent", "transforms:Tangent", "always", False),
    ("direct", "transforms:Direct", "flat", False),
    ("boost", "transforms:Boost", "never", True),
):
    TRANSFORMS.declare(_name, f"manifold_lora.adapters.{_class}", linear=_linear, time=_time)
_OF_POWER = {
    "p": (lambda value: value is None or is_number(value), "a finite number, or none for the geometry's own"),
    "learned": (lambda value: isinstance(value, bool), "true or false"),
}
# radial: a control that replaces what one radial geometry makes of a token's length.
# options: what may stand beside the name, for the constructor, and which values it takes.
for _name, _class, _linear, _time, _options in (
    ("norm_blind", "norm_blind:NormBlind", "flat", False, ()),
    ("power", "power:Power", "never", False, _OF_POWER),
    ("frozen_boost", "frozen_boost:FrozenBoost", "never", True, ()),
):
    TRANSFORMS.declare(
        _name,
        f"manifold_lora.adapters.{_class}",
        linear=_linear,
        time=_time,
        radial=True,
        options=_options,
    )

NORM_SCALINGS: Registry[Any] = Registry("norm scaling", "manifold_lora.norm_scalings")
# linear: does it multiply by constants? shareable: has it learned numbers that all layers may have in common?
for _name, _class, _is_linear, _shareable in (
    ("identity", "Identity", True, False),
    ("fixed", "Fixed", True, False),
    ("learned", "Learned", True, True),
    ("released", "Released", True, True),
    ("unit", "Unit", False, True),
):
    NORM_SCALINGS.declare(
        _name,
        f"manifold_lora.adapters.norm_scaling:{_class}",
        linear=_is_linear,
        shareable=_shareable,
    )
