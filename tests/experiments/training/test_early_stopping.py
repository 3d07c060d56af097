"""Early stopping: the best weights are kept, the record says which, and interruptions change nothing."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from transformers import TrainerControl, TrainerState

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.early_stopping import EarlyStopping
from manifold_lora.experiments.training.encoding import encode_examples
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.train import fit
from manifold_lora.experiments.training.validation import ValidationLoss
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt


@pytest.fixture(scope="module")
def task():
    return build_task("taxonomy", limit=40)


@pytest.fixture(scope="module")
def tokenizer(task):
    return word_tokenizer(document.text for document in task.pretraining_texts())


@pytest.fixture
def adapted(tokenizer):
    def build():
        base = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16)
        torch.manual_seed(0)
        return adapt(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))

    return build


@given(
    scores=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12),
    every=st.integers(1, 3),
    patience=st.integers(1, 4),
)
def test_the_first_best_look_is_kept(scores: list[float], every: int, patience: int) -> None:
    """Against the definition: go through the looks one by one and count those that are no better."""
    model = torch.nn.Linear(1, 1, bias=False)
    feed, control = iter(scores), TrainerControl()
    stopping = EarlyStopping(lambda: next(feed), every, patience)
    best, kept, bad, taken = math.inf, 0, 0, 0
    for step in range(1, every * len(scores) + 1):
        model.weight.data.fill_(step)
        state = TrainerState(global_step=step, max_steps=every * len(scores))
        stopping.on_step_end(None, state, control, model=model)
        if step % every:
            continue
        score, taken = scores[taken], taken + 1
        best, kept, bad = (score, step, 0) if score < best else (best, kept, bad + 1)
        assert control.should_training_stop == (bad >= patience)
        if control.should_training_stop:
            break
    stopping.keep_best(model)
    assert model.weight.item() == kept == stopping.record()["kept_step"]
    assert stopping.record()["stopped_at"] == (step if bad >= patience else None)
    assert len(stopping.record()["looks"]) == taken


def test_the_last_step_is_looked_at_too() -> None:
    stopping = EarlyStopping(lambda: 1.0, every=4, patience=9)
    model = torch.nn.Linear(1, 1)
    for step in range(1, 7):
        state = TrainerState(global_step=step, max_steps=6)
        stopping.on_step_end(None, state, TrainerControl(), model=model)
    assert [step for step, _ in stopping.looks] == [4, 6]


def test_the_loss_is_the_mean_over_target_tokens(adapted, tokenizer, task) -> None:
    model = adapted().double().train()
    loss = ValidationLoss.of(model, tokenizer, task.validation, batch_size=7)()
    assert model.training
    losses = []
    for example in task.validation:
        ids = tokenizer(f"{example.prompt} {example.target}")["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-float(logits[at - 1, ids[at]]) for at in (len(ids) - 2, len(ids) - 1)]
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-6)


SETTINGS = TrainSettings(learning_rate=0.5, steps=30, batch_size=8, checkpoint_every=3)


def run(adapted, tokenizer, task, checkpoints: Path | None = None, end_at: int | None = None):
    model = adapted()
    stopping = EarlyStopping(ValidationLoss.of(model, tokenizer, task.validation, 16), every=2, patience=3)

    def step_done(step: int, loss: float) -> None:
        if step == end_at:
            raise KeyboardInterrupt

    where = Checkpoints(checkpoints) if checkpoints else None
    options = FitOptions(on_step=step_done, checkpoints=where, stopping=stopping)
    rows = encode_examples(tokenizer, task.train)
    report = fit(model, tokenizer, rows, SETTINGS, options)
    return model, stopping, report


def test_a_run_that_gets_worse_ends_early_with_its_best_weights(adapted, tokenizer, task) -> None:
    """At a rate of 0.5 it soon does; the model that is left has the loss of the best look."""
    model, stopping, report = run(adapted, tokenizer, task)
    record = stopping.record()
    assert record["stopped_at"] == len(report.losses) < 30
    assert record["kept_step"] == record["stopped_at"] - 6
    best = min(score for _, score in record["looks"])
    assert ValidationLoss.of(model, tokenizer, task.validation, 16)() == best


def test_interrupted_it_ends_the_same(adapted, tokenizer, task, tmp_path: Path) -> None:
    whole, before, report = run(adapted, tokenizer, task)
    end = before.record()["stopped_at"]
    with pytest.raises(KeyboardInterrupt):
        run(adapted, tokenizer, task, tmp_path, end_at=end - 1)
    again, after, resumed = run(adapted, tokenizer, task, tmp_path)
    assert resumed.resumed_from > 0
    assert resumed.losses == report.losses
    assert after.record() == before.record()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("by", ["loss", "accuracy"])
def test_the_result_says_which_step_was_kept(base: str, tmp_path: Path, by: str) -> None:
    flags = {
        "--model": base,
        "--output": str(tmp_path / "run"),
        "--task.limit": "8",
        "--train.steps": "5",
        "--train.early_stopping": "1",
        "--train.validate_by": by,
        "--train.validate_every": "2",
        "--evaluation.max_new_tokens": "2",
    }
    assert main(["train", *(word for pair in flags.items() for word in pair)]) == 0
    record = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    early = record["train"]["early_stopping"]
    assert early["kept_step"] in [step for step, _ in early["looks"]]
    if by == "accuracy":  # the untrained model is never right: the second look is no better
        assert early == {"looks": [[2, 1.0], [4, 1.0]], "kept_step": 2, "stopped_at": 4}
        assert len(record["train"]["losses"]) == 4
