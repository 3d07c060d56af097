"""Manifold adapters in PEFT, loading of base models, parameter groups and control arms."""

from typing import TYPE_CHECKING

from manifold_lora.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        ".calibration": "calibrate",
        ".calibration_callback": "CalibrationCallback",
        ".export": "export_lora fit_layers",
        ".gain": "gain_matched_alpha gain_matched_lora measure_gain",
        ".geometry_log": "GeometryLog effective_kappa effective_scale token_gates",
        ".liveness": "LivenessCallback watch_layers",
        ".load": "load_adapter load_base",
        ".module_geometry": "ModuleGeometry measure_geometry",
        ".optim": "create_optimizer parameter_groups",
        ".saved.card": "model_card",
        ".saved.save": "adapter_bytes save_adapter",
        ".tuner.apply": "adapt",
        ".tuner.bottleneck": "BottleneckConfig",
        ".tuner.config": "ManifoldLoraConfig",
        ".tuner.frames": "FramesCallback frame_drift keep_frames",
        ".tuner.model": "ManifoldLoraModel",
    },
)

if TYPE_CHECKING:
    from manifold_lora.models.calibration import calibrate as calibrate
    from manifold_lora.models.calibration_callback import CalibrationCallback as CalibrationCallback
    from manifold_lora.models.export import export_lora as export_lora
    from manifold_lora.models.export import fit_layers as fit_layers
    from manifold_lora.models.gain import gain_matched_alpha as gain_matched_alpha
    from manifold_lora.models.gain import gain_matched_lora as gain_matched_lora
    from manifold_lora.models.gain import measure_gain as measure_gain
    from manifold_lora.models.geometry_log import GeometryLog as GeometryLog
    from manifold_lora.models.geometry_log import effective_kappa as effective_kappa
    from manifold_lora.models.geometry_log import effective_scale as effective_scale
    from manifold_lora.models.geometry_log import token_gates as token_gates
    from manifold_lora.models.liveness import LivenessCallback as LivenessCallback
    from manifold_lora.models.liveness import watch_layers as watch_layers
    from manifold_lora.models.load import load_adapter as load_adapter
    from manifold_lora.models.load import load_base as load_base
    from manifold_lora.models.module_geometry import ModuleGeometry as ModuleGeometry
    from manifold_lora.models.module_geometry import measure_geometry as measure_geometry
    from manifold_lora.models.optim import create_optimizer as create_optimizer
    from manifold_lora.models.optim import parameter_groups as parameter_groups
    from manifold_lora.models.saved.card import model_card as model_card
    from manifold_lora.models.saved.save import adapter_bytes as adapter_bytes
    from manifold_lora.models.saved.save import save_adapter as save_adapter
    from manifold_lora.models.tuner.apply import adapt as adapt
    from manifold_lora.models.tuner.bottleneck import BottleneckConfig as BottleneckConfig
    from manifold_lora.models.tuner.config import ManifoldLoraConfig as ManifoldLoraConfig
    from manifold_lora.models.tuner.frames import FramesCallback as FramesCallback
    from manifold_lora.models.tuner.frames import frame_drift as frame_drift
    from manifold_lora.models.tuner.frames import keep_frames as keep_frames
    from manifold_lora.models.tuner.model import ManifoldLoraModel as ManifoldLoraModel
