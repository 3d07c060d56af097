"""Which weights tell a base model: matrices whose numbers can be read, and no others."""

import pytest
import torch
from torch import nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.base_identity import check_base, describe_base


class Packed(torch.Tensor):
    """A tensor of another class, as quantised weights are."""


def parameter(tensor):
    return nn.Parameter(tensor, requires_grad=tensor.requires_grad)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.plain = parameter(torch.arange(12.0).view(3, 4))
        self.short = parameter(torch.ones(3, 4, dtype=torch.bfloat16))
        self.vector = parameter(torch.ones(4))
        self.meta = parameter(torch.ones(3, 4, device="meta"))
        self.byte = parameter(torch.ones(3, 4, dtype=torch.uint8))
        self.fp8 = parameter(torch.ones(3, 4).to(torch.float8_e4m3fn))
        self.whole = parameter(torch.ones(3, 4, dtype=torch.int64))
        self.packed = parameter(torch.zeros(3, 4).as_subclass(Packed))


def test_the_weights_that_can_be_read():
    assert type(Base().packed.data) is Packed
    assert sorted(describe_base(Base())["weights"]) == ["plain", "short"]


def test_a_base_whose_weights_cannot_be_read_any_more_is_known_by_the_others():
    described, quantised = describe_base(Base()), Base()
    quantised.plain = parameter(torch.zeros(3, 4, dtype=torch.uint8))
    check_base(described, quantised)
    quantised.short = parameter(torch.full((3, 4), 1.5))
    with pytest.raises(ManifoldLoraError, match="other numbers in short"):
        check_base(described, quantised)
    del quantised.plain
    with pytest.raises(ManifoldLoraError, match="no weight plain"):
        check_base({**described, "weights": {"plain": described["weights"]["plain"]}}, quantised)


def test_rounding_to_half_precision_is_the_same_base_and_more_is_another():
    torch.manual_seed(0)
    base = nn.Linear(64, 64)
    described = describe_base(base)
    check_base(described, base.to(torch.bfloat16))
    with torch.no_grad():
        base.weight.mul_(1.02)
    with pytest.raises(ManifoldLoraError, match="other numbers in weight"):
        check_base(described, base)
