"""transformers' Trainer: it trains the geometry, and a resumed run equals one that was never stopped."""

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

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
