"""The geometries by name.

Metadata: kappa_sign; extra_dims; linear, whether the chart is the identity, so that adapters on it are LoRA;
parts, whether it is made of other geometries, whose curvatures are its own; radial, whether its chart looks
the same in every direction from the origin.
"""

from typing import Any

from manifold_lora.registry import Registry

MANIFOLDS: Registry[Any] = Registry("manifold", "manifold_lora.manifolds")
for _name, _class, _sign, _extra in (
    ("euclidean", "Euclidean", 0, 0),
    ("lorentz", "Lorentz", -1, 1),
    ("poincare", "Poincare", -1, 0),
    ("klein", "Klein", -1, 0),
    ("half_space", "HalfSpace", -1, 0),
    ("complex_hyperbolic", "ComplexHyperbolic", -1, 0),
    ("sphere", "Sphere", 1, 1),
    ("stereographic", "Stereographic", None, 0),
    ("product", "Product", None, None),
):
    MANIFOLDS.declare(
        _name,
        f"manifold_lora.manifolds.{_name}:{_class}",
        kappa_sign=_sign,
        extra_dims=_extra,
        linear=_name == "euclidean",
        parts=_name == "product",
        radial=_name not in ("half_space", "product"),
    )


def has_parts(name: str) -> bool:
    """Whether a geometry is made of others (``parts`` in a config), and has no curvature of its own."""
    return bool(MANIFOLDS.metadata(name).get("parts"))


def curved_names() -> list[str]:
    """The geometries whose curvature has one sign, and is not 0."""
    return [name for name in MANIFOLDS if MANIFOLDS.metadata(name).get("kappa_sign") in (-1, 1)]


def is_radial(name: str) -> bool:
    """Whether a geometry's chart looks the same in every direction, which a plugin need not state."""
    return bool(MANIFOLDS.metadata(name).get("radial", not has_parts(name)))


# steps: what beside retraction a manifold of matrices offers.
FRAMES: Registry[Any] = Registry("frames", "manifold_lora.frames")
for _name, _steps in (("stiefel", ("retraction", "landing")), ("oblique", ("retraction",)), ("free", ())):
    FRAMES.declare(_name, f"manifold_lora.manifolds.frames:{_name.capitalize()}", steps=_steps)
