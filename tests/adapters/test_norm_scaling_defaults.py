"""What is the case where nothing is said: the defaults of norm scalings, laws and configs."""

import pytest
import torch

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.spec import HYPLORA, AdapterSpec
from manifold_lora.manifolds.spec import ManifoldSpec
from manifold_lora.models.tuner.config import ManifoldLoraConfig


class Doubled(NormScaling):
    """All a newcomer writes."""

    def law(self, dtype):
        return ScaleLaw(alpha=2.0)


def test_a_law_of_nothing_leaves_lengths_alone():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    law = ScaleLaw()
    assert torch.equal(law.scale(x), x)
    assert (law.alpha, law.gain, law.unit, law.s, law.beta) == (1.0, 1.0, False, 1.0, 1.0)


def test_a_newcomer_is_linear_has_no_powers_and_comes_back_with_gain_one():
    scaling = Doubled(4)
    assert (scaling.linear, scaling.powers) == (True, None)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    v, law = scaling.scale(x)
    assert torch.equal(v, 2 * x)
    assert torch.equal(scaling.unscale(v, law), x)
    # The powers of a parent's law are not those of another law.
    assert type("Heir", (Doubled,), {"law": lambda self, dtype: ScaleLaw()}).powers is None


@pytest.mark.parametrize(
    "default", [AdapterSpec(ManifoldSpec.parse("lorentz")), ManifoldLoraConfig().spec(), HYPLORA], ids=str
)
def test_an_adapter_of_which_nothing_is_said_learns_its_scale(default):
    assert (default.norm_scaling, default.norm_scope) == ("learned", "layer")
    layer = ManifoldLoRA(16, 4, rank=2)
    assert [name for name, _ in layer.named_parameters() if "norm_scaling" in name]
    assert ManifoldLoraConfig().norm_scaling == "learned"
