"""From a geometry as data to the module."""

from typing import Any, cast

from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.curvature import Curvature, Mode
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.manifolds.spec import ManifoldSpec


def build_manifold(spec: ManifoldSpec | str | dict[str, Any]) -> Manifold:
    """The geometry a spec, a name or a mapping describes, with its own curvature.

    Raises:
        ManifoldLoraError: as ManifoldSpec.parse.
    """
    spec = ManifoldSpec.parse(spec)
    make = MANIFOLDS[spec.name]
    kappa, mode, options = spec.curvature.kappa, cast(Mode, spec.curvature.mode), dict(spec.options)
    if spec.parts:
        options["parts"] = [(share, build_manifold(part)) for share, part in spec.parts]
    return cast(Manifold, make(**options) if kappa is None else make(Curvature(kappa, mode), **options))
