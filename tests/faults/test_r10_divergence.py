"""R10: NaN or Inf in a weight, an activation or the loss stops the run within one step, named and unsaved."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_runs import load_small, save_base
from peft import PeftModel

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.models.saved.save import save_adapter

AT = 3
VALUES = {"NaN": math.nan, "Inf": math.inf}
LAYER = "base_model.model.model.layers.1.mlp.up_proj"
Inject = Callable[[PeftModel, float], None]


def in_weight(model: PeftModel, value: float) -> None:
    model.get_submodule(LAYER).lora_A["default"].weight.data[0, 0] = value


def in_activation(model: PeftModel, value: float) -> None:
    model.get_submodule(LAYER).register_forward_hook(lambda module, inputs, output: output * value)


def in_loss(model: PeftModel, value: float) -> None:
    def change(module: torch.nn.Module, inputs: object, output: dict[str, torch.Tensor]) -> None:
        output["loss"] = output["loss"] * value

    model.get_base_model().register_forward_hook(change)


PLACES: dict[str, tuple[Inject, str]] = {
    "weight": (in_weight, f"{LAYER}.lora_A.default.weight not finite"),
    "activation": (in_activation, f"output of {LAYER} not finite"),
    "loss": (in_loss, "with finite weights and module outputs"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("arm", ["lora", "boost"])
def test_two_arms(arm: str, base: Path, tmp_path: Path, tally) -> None:
    six_injections(arm, base, tmp_path, tally)


@pytest.mark.slow
def test_eight_arms(arm: str, base: Path, tmp_path: Path, tally) -> None:
    six_injections(arm, base, tmp_path, tally)


def six_injections(arm: str, base: Path, folder: Path, tally) -> None:
    stopped = [
        _stops(arm, base, folder / place / name, inject, value, named)
        for place, (inject, named) in PLACES.items()
        for name, value in VALUES.items()
    ]
    tally("R10", f"{arm}: NaN and Inf in weight, activation, loss", sum(stopped), 6)


def _stops(arm: str, base: Path, folder: Path, inject: Inject, value: float, named: str) -> bool:
    small = load_small(arm, base, checkpoint_every=1)
    seen: list[int] = []

    def on_step(step: int, loss: float) -> None:
        seen.append(step)
        if step == AT - 1:
            inject(small.model, value)

    with pytest.raises(DivergedError) as caught:
        small.fit(on_step, Checkpoints(folder))
    message = str(caught.value)
    newest = Checkpoints(folder).newest()
    assert newest is not None
    geometry = "no geometry involved" if arm in ("lora", "dora") else "kappa finite in"
    return (
        seen[-1] == AT - 1
        and newest.step < AT
        and (f"at step {AT}" in message or f"at step {AT - 1}" in message)
        and named in message
        and geometry in message
        and "\n" not in message
        and caught.value.status == "diverged"
    )


def test_nothing_that_is_not_finite_is_saved(arm: str, base: Path, tmp_path: Path, tally) -> None:
    refused = 0
    for value in VALUES.values():
        small = load_small(arm, base)
        in_weight(small.model, value)
        with pytest.raises(ManifoldLoraError, match=r"up_proj\.lora_A\.weight"):
            save_adapter(small.model, tmp_path / "adapter")
        refused += not list(tmp_path.iterdir())
    tally("R10", f"{arm}: save_adapter refuses NaN and Inf", refused, 2)
