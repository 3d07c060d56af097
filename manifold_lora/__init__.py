"""Low-rank adapters on curved spaces: y = W x + scaling * unscale(logmap0(T(expmap0(scale(x)))))."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AdapterSpec": ".adapters.spec",
        "BOOST": ".adapters.spec",
        "calibrate": ".models.calibration",
        "CalibrationCallback": ".models.calibration_callback",
        "HYPLORA": ".adapters.spec",
        "LORA": ".adapters.spec",
        "ManifoldLoRA": ".adapters.layer",
        "ManifoldLoraConfig": ".models.tuner.config",
        "ManifoldLoraError": ".errors",
        "ManifoldLoraModel": ".models.tuner.model",
        "MANIFOLDS": ".manifolds.registry",
        "TANGENT": ".adapters.spec",
    },
)
__all__ += ["__version__"]

if TYPE_CHECKING:
    from manifold_lora.adapters.layer import ManifoldLoRA as ManifoldLoRA
    from manifold_lora.adapters.spec import BOOST as BOOST
    from manifold_lora.adapters.spec import HYPLORA as HYPLORA
    from manifold_lora.adapters.spec import LORA as LORA
    from manifold_lora.adapters.spec import TANGENT as TANGENT
    from manifold_lora.adapters.spec import AdapterSpec as AdapterSpec
    from manifold_lora.errors import ManifoldLoraError as ManifoldLoraError
    from manifold_lora.manifolds.registry import MANIFOLDS as MANIFOLDS
    from manifold_lora.models.calibration import calibrate as calibrate
    from manifold_lora.models.calibration_callback import CalibrationCallback as CalibrationCallback
    from manifold_lora.models.tuner.config import ManifoldLoraConfig as ManifoldLoraConfig
    from manifold_lora.models.tuner.model import ManifoldLoraModel as ManifoldLoraModel
