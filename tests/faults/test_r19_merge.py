"""R19: arms that are not linear refuse to merge, saying why and changing nothing; linear ones are exact."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_runs import load_small, save_base
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer

from manifold_lora.errors import LinearOnlyError

LINEAR = ("lora", "tangent", "dora")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def first_layer(model: PeftModel) -> LoraLayer:
    return next(module for module in model.modules() if isinstance(module, LoraLayer))


MERGES: dict[str, Callable[[PeftModel], object]] = {
    "merge_and_unload": lambda model: model.merge_and_unload(),
    "merge_and_unload(safe_merge)": lambda model: model.merge_and_unload(safe_merge=True),
    "merge_adapter": lambda model: model.merge_adapter(),
    "merge_adapter(safe_merge)": lambda model: model.merge_adapter(safe_merge=True),
    "layer.merge": lambda model: first_layer(model).merge(),
    "layer.get_delta_weight": lambda model: first_layer(model).get_delta_weight("default"),
}


def trained(arm: str, base: Path) -> PeftModel:
    """The arm moved off its start."""
    model = load_small(arm, base).model.eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_merge(arm: str, base: Path, tally) -> None:
    ids = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    (exact if arm in LINEAR else refused)(arm, base, ids, tally)


@torch.no_grad()
def exact(arm: str, base: Path, ids: torch.Tensor, tally) -> None:
    passed = 0
    for safe in (False, True):
        model = trained(arm, base)
        expected = model(ids).logits
        with model.disable_adapter():
            assert (model(ids).logits - expected).abs().max() > 1e-3
        model.merge_adapter(safe_merge=safe)
        passed += (model(ids).logits - expected).abs().max() <= 1e-5
        model.unmerge_adapter()
        passed += (model(ids).logits - expected).abs().max() <= 1e-5
        passed += (model.merge_and_unload(safe_merge=safe)(ids).logits - expected).abs().max() <= 1e-5
    tally("R19", f"{arm}: merged, unmerged, unloaded within 1e-5", int(passed), 6)


@torch.no_grad()
def refused(arm: str, base: Path, ids: torch.Tensor, tally) -> None:
    model = trained(arm, base)
    expected = model(ids).logits
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    passed = 0
    for merge in MERGES.values():
        with pytest.raises(LinearOnlyError, match="depends on the norm of each token"):
            merge(model)
        after = model.state_dict()
        passed += all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(model(ids).logits, expected)
    tally("R19", f"{arm}: merging refused with its reason, no weight changed", passed, len(MERGES))
