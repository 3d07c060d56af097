"""Numbers of a geometry that are exponents: bounded, since a file may hold any."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.token_scale import TokenCurvature
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.manifolds.errors import ManifoldLoraError

# exp(64) times the stated curvature or scale is 10^27 times: a damaged file, far inside float64's range.
MAX_EXPONENT = 64.0


def check_exponents(
    model: nn.Module, tensors: Mapping[str, Tensor], named: Callable[[str], str] = str
) -> None:
    """Raise ManifoldLoraError naming the first of ``tensors`` whose exponential no geometry can use.

    Args:
        model: the adapted model.
        tensors: what is going to be loaded into it.
        named: from a parameter's name in the model to its name among the tensors.
    """
    for name, module in model.named_modules(remove_duplicate=False):
        for leaf in _exponents(module):
            key = named(f"{name}.{leaf}")
            tensor = tensors.get(key)
            if tensor is not None and not tensor.is_meta and tensor.abs().max() > MAX_EXPONENT:
                got, allowed = f"{float(tensor.abs().max()):g} in {key}", f"at most {MAX_EXPONENT:g}"
                raise ManifoldLoraError("exponent in adapter", got, allowed, "a damaged file")


def _exponents(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, Curvature):
        return ("raw",) if module.mode == "learned" else ()
    if isinstance(module, TokenCurvature):
        return ("gate", "log_reference")
    return ("log_scale",) if isinstance(module, NormScaling) else ()
