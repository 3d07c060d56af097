"""transformers' Trainer: it trains the geometry, and a resumed run equals one that was never stopped."""

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from manifold_lora.models.geometry_log import GeometryLog, effective_kappa, effective_scale, learned_geometry
from manifold_lora.models.optim import create_optimizer

LEARNED = {"mode": "learned", "kappa": -0.7}
STEPS = 6


class Stop(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step
        return control


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(4, 64, (16, 8), generator=generator).tolist()
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def trainer_of(model, rows, folder, callbacks=(), **options) -> Trainer:
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        save_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize("options", [{}, {"transform": "boost"}, {"manifold": "poincare"}], ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(adapted, rows, tmp_path, options):
    curvature = {**LEARNED, "kappa": -0.7}
    torch.manual_seed(1)
    whole = adapted(curvature=curvature, lora_dropout=0.1, **options)
    start = weights(whole)
    trainer_of(whole, rows, tmp_path / "whole").train()
    expected = weights(whole)
    assert all(not torch.equal(expected[name], start[name]) for name in expected)

    torch.manual_seed(1)
    trainer_of(
        adapted(curvature=curvature, lora_dropout=0.1, **options), rows, tmp_path / "cut", [Stop(4)]
    ).train()
    torch.manual_seed(2)
    resumed = adapted(curvature=curvature, lora_dropout=0.1, **options)
    trainer_of(resumed, rows, tmp_path / "cut").train(resume_from_checkpoint=True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())


def test_the_trainer_takes_our_parameter_groups(adapted, rows, tmp_path):
    model = adapted(curvature=LEARNED)
    start = weights(model)
    trainer = trainer_of(model, rows, tmp_path)
    trainer.optimizer = create_optimizer(model, 1e-2, geometry_lr_factor=0.0)
    trainer.train()
    for name, tensor in weights(model).items():
        still = ".curvature." in name or ".norm_scaling." in name
        assert torch.equal(tensor, start[name]) == still, name


def test_bfloat16_training_moves_a_float32_curvature(adapted, rows, tmp_path):
    model = adapted(curvature=LEARNED)
    trainer_of(model, rows, tmp_path, bf16=True).train()
    kappas = [p for name, p in model.named_parameters() if ".curvature." in name]
    assert kappas
    assert all(p.dtype == torch.float32 and p.isfinite().all() and p.abs().max() > 0 for p in kappas)


class Heard(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


def test_the_geometry_is_logged_as_it_is_learned(adapted, rows, tmp_path):
    model, heard = adapted(curvature=LEARNED), Heard()
    start = effective_kappa(model)
    trainer = trainer_of(model, rows, tmp_path, [GeometryLog(), heard], logging_steps=2)
    trainer.train()
    kappa, scale = effective_kappa(model), effective_scale(model)
    for logs in ([log for log in heard.logs if "loss" in log], trainer.state.log_history[:-1]):
        assert len(logs) == STEPS // 2
        last = logs[-1]
        assert last["kappa/model.layers.1.self_attn.v_proj.default"] == pytest.approx(
            list(kappa.values())[-1]
        )
        assert last["s/model.layers.0.self_attn.q_proj.default"] == pytest.approx(next(iter(scale.values())))
        for what, values in (("kappa", kappa), ("s", scale)):
            numbers = list(values.values())
            assert last[f"{what}/mean"] == pytest.approx(sum(numbers) / 4)
            assert [last[f"{what}/min"], last[f"{what}/max"]] == pytest.approx([min(numbers), max(numbers)])
        assert logs[0]["kappa/mean"] != last["kappa/mean"]
    assert list(kappa.values()) != list(start.values())


@pytest.mark.parametrize("layers", [True, False])
def test_what_is_not_learned_is_not_logged_and_layers_may_be_left_out(adapted, rows, tmp_path, layers):
    still = adapted(norm_scaling="fixed")
    assert learned_geometry(still) == {}
    trainer = trainer_of(adapted(), rows, tmp_path, [GeometryLog(layers=layers)], logging_steps=STEPS)
    trainer.train()
    keys = {key.partition("/")[2] for key in trainer.state.log_history[0] if "/" in key}
    assert (keys == {"mean", "min", "max"}) == (not layers)
    gates = learned_geometry(adapted(curvature={"mode": "token"}))["gate"]
    assert next(iter(gates)) == "model.layers.0.self_attn.q_proj.default"
