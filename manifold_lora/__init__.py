"""Low-rank adapters on curved spaces: y = W x + scaling * unscale(logmap0(T(expmap0(scale(x)))))."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".adapters.layer": "ManifoldLoRA",
        ".adapters.spec": "BOOST HYPLORA LORA TANGENT AdapterSpec",
        ".errors": "ManifoldLoraError",
        ".manifolds.build": "build_manifold",
        ".manifolds.lorentz": "Lorentz",
        ".manifolds.plugins": "load_plugins",
        ".manifolds.registry": "MANIFOLDS",
        ".models.calibration": "calibrate",
        ".models.calibration_callback": "CalibrationCallback",
        ".models.export": "export_lora",
        ".models.geometry_log": "GeometryLog",
        ".models.liveness": "LivenessCallback",
        ".models.load": "load_adapter load_base",
        ".models.optim": "create_optimizer",
        ".models.saved.save": "save_adapter",
        ".models.tuner.apply": "adapt",
        ".models.tuner.config": "ManifoldLoraConfig",
        ".models.tuner.frames": "FramesCallback keep_frames",
        ".models.tuner.model": "ManifoldLoraModel",
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
    from manifold_lora.manifolds.build import build_manifold as build_manifold
    from manifold_lora.manifolds.lorentz import Lorentz as Lorentz
    from manifold_lora.manifolds.plugins import load_plugins as load_plugins
    from manifold_lora.manifolds.registry import MANIFOLDS as MANIFOLDS
    from manifold_lora.models.calibration import calibrate as calibrate
    from manifold_lora.models.calibration_callback import CalibrationCallback as CalibrationCallback
    from manifold_lora.models.export import export_lora as export_lora
    from manifold_lora.models.geometry_log import GeometryLog as GeometryLog
    from manifold_lora.models.liveness import LivenessCallback as LivenessCallback
    from manifold_lora.models.load import load_adapter as load_adapter
    from manifold_lora.models.load import load_base as load_base
    from manifold_lora.models.optim import create_optimizer as create_optimizer
    from manifold_lora.models.saved.save import save_adapter as save_adapter
    from manifold_lora.models.tuner.apply import adapt as adapt
    from manifold_lora.models.tuner.config import ManifoldLoraConfig as ManifoldLoraConfig
    from manifold_lora.models.tuner.frames import FramesCallback as FramesCallback
    from manifold_lora.models.tuner.frames import keep_frames as keep_frames
    from manifold_lora.models.tuner.model import ManifoldLoraModel as ManifoldLoraModel
