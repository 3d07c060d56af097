"""The adapter layer: low-rank updates carried through a geometry, assembled from named parts."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".layer": "ManifoldLoRA",
        ".norm_scaling": "NormScaling ScaleLaw",
        ".parameters": "geometry_parameters",
        ".registry": "NORM_SCALINGS TRANSFORMS",
        ".spec": "BOOST HYPLORA LORA PRESETS TANGENT AdapterSpec check_rank transforms_of",
        ".token_scale": "TokenCurvature TokenScale",
        ".transforms": "Transform",
        ".update": "ManifoldUpdate",
    },
)

if TYPE_CHECKING:
    from manifold_lora.adapters.layer import ManifoldLoRA as ManifoldLoRA
    from manifold_lora.adapters.norm_scaling import NormScaling as NormScaling
    from manifold_lora.adapters.norm_scaling import ScaleLaw as ScaleLaw
    from manifold_lora.adapters.parameters import geometry_parameters as geometry_parameters
    from manifold_lora.adapters.registry import NORM_SCALINGS as NORM_SCALINGS
    from manifold_lora.adapters.registry import TRANSFORMS as TRANSFORMS
    from manifold_lora.adapters.spec import BOOST as BOOST
    from manifold_lora.adapters.spec import HYPLORA as HYPLORA
    from manifold_lora.adapters.spec import LORA as LORA
    from manifold_lora.adapters.spec import PRESETS as PRESETS
    from manifold_lora.adapters.spec import TANGENT as TANGENT
    from manifold_lora.adapters.spec import AdapterSpec as AdapterSpec
    from manifold_lora.adapters.spec import check_rank as check_rank
    from manifold_lora.adapters.spec import transforms_of as transforms_of
    from manifold_lora.adapters.token_scale import TokenCurvature as TokenCurvature
    from manifold_lora.adapters.token_scale import TokenScale as TokenScale
    from manifold_lora.adapters.transforms import Transform as Transform
    from manifold_lora.adapters.update import ManifoldUpdate as ManifoldUpdate
