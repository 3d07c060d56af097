"""Names of transforms and norm scalings; importing this module does not import torch."""

from typing import Any

from manifold_lora.registry import Registry

# linear: is x -> delta a matrix? "always", "flat" (where the chart is the identity) or "never".
# time: does the transform act on a time coordinate, so that only geometries with one have it?
TRANSFORMS: Registry[Any] = Registry("transform", "manifold_lora.transforms")
for _name, _class, _linear, _time in (
    ("tangent", "Tangent", "always", False),
    ("direct", "Direct", "flat", False),
    ("boost", "Boost", "never", True),
):
    TRANSFORMS.declare(_name, f"manifold_lora.adapters.transforms:{_class}", linear=_linear, time=_time)

NORM_SCALINGS: Registry[Any] = Registry("norm scaling", "manifold_lora.norm_scalings")
for _name, _class, _is_linear in (
    ("identity", "Identity", True),
    ("fixed", "Fixed", True),
    ("learned", "Learned", True),
    ("released", "Released", True),
    ("unit", "Unit", False),
):
    NORM_SCALINGS.declare(_name, f"manifold_lora.adapters.norm_scaling:{_class}", linear=_is_linear)
