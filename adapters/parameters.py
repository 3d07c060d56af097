"""Which parameters of a model are geometry: no weight decay, and maybe their own learning rate."""

from torch import nn

from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.token_scale import TokenCurvature
from manifold_lora.manifolds.curvature import Curvature


def geometry_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The curvatures, their gates and the norm scales inside ``module``, each once, shared or not."""
    geometry = Curvature | NormScaling | TokenCurvature
    owners = [part for part in module.modules() if isinstance(part, geometry)]
    found = {id(parameter): parameter for owner in owners for parameter in owner.parameters(recurse=False)}
    return list(found.values())
