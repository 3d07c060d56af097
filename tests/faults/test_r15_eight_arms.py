"""R15, arm by arm as a run puts them on: bad targets, second injections, quantised layers, every layer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_arms import EIGHT_ARMS
from fault_runs import save_base, settings_of
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.methods.config import peft_config
from manifold_lora.models.load import load_base
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.targets import check_targets

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BAD: dict[str, tuple[object, str]] = {
    "unknown module": (["q_porj"], "did you mean 'q_proj'?"),
    "one of two unknown": (["q_proj", "dawn_proj"], "did you mean 'down_proj'?"),
    "a pattern without a match": (r".*\.q_porj", "did you mean 'q_proj'?"),
    "a pattern that matches no linear layer": (r".*norm", "no linear layer"),
    "none": ([], "no layer would be adapted"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def put_on(arm: str, base: Path, model: nn.Module, targets: object) -> nn.Module:
    """The arm on the model, as a run does it: the targets are checked whatever the method."""
    run = settings_of(arm, base)
    config = peft_config(run.adapter.model_copy(update={"target_modules": targets}), {})
    check_targets(model, config)
    return adapt(model, config)


def adapted_layers(model: nn.Module) -> int:
    return sum(isinstance(module, LoraLayer) for module in model.modules())


def test_bad_targets_and_second_adapters_are_refused(arm: str, base: Path, tally) -> None:
    model, _ = load_base(str(base))
    before = [type(module) for module in model.modules()]
    message = 0
    for targets, hint in BAD.values():
        with pytest.raises(ManifoldLoraError) as caught:
            put_on(arm, base, model, targets)
        untouched = [type(module) for module in model.modules()] == before
        message += untouched and hint in str(caught.value) and "\n" not in str(caught.value)
    adapted = put_on(arm, base, model, LINEAR)
    message += adapted_layers(adapted) == 14
    for again in (model, adapted):
        with pytest.raises(ManifoldLoraError):
            adapt(again, peft_config(settings_of(arm, base).adapter, {}))
        message += adapted_layers(adapted) == 14
    tally("R15", f"{arm}: bad targets, all 14 layers adapted, no second adapter", message, len(BAD) + 3)


def eight_bit() -> nn.Module:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    return bitsandbytes.nn.Linear8bitLt(16, 16, bias=False, has_fp16_weights=False)


def unknown_quantised() -> nn.Module:
    return type("WQLinear_GEMM", (nn.Module,), {"in_features": 16, "out_features": 16})()


@pytest.mark.parametrize("make", [eight_bit, unknown_quantised], ids=lambda make: make.__name__)
def test_a_quantised_layer_carries_the_geometry_or_refuses_it(
    make: Callable[[], nn.Module], base: Path, tally
) -> None:
    arms = [arm for arm in EIGHT_ARMS if arm not in ("lora", "dora")]
    passed = 0
    for arm in arms:
        model, _ = load_base(str(base))
        model.model.layers[0].self_attn.q_proj = make()
        try:
            adapted = put_on(arm, base, model, ["q_proj"])
        except ManifoldLoraError as error:
            passed += make is unknown_quantised and "q_proj" in str(error)
            continue
        geometry = [name for name, _ in adapted.named_modules() if name.endswith("lora_manifold.default")]
        passed += make is eight_bit and len(geometry) == 2
    tally("R15", f"{make.__name__} layer: geometry in place, or refused", passed, len(arms))
