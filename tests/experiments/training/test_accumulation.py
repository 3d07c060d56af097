"""Gradient accumulation: a step of several passes is the step of one large batch."""

from pathlib import Path

import pytest
import torch

from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.experiments.training.encoding import encode_examples
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.train import fit
from manifold_lora.models.tiny import tiny_model, word_tokenizer

WHOLE = TrainSettings(learning_rate=1e-2, steps=9, batch_size=12, grouping="length")
PARTS = WHOLE.model_copy(update={"batch_size": 3, "gradient_accumulation": 4})


@pytest.fixture(scope="module")
def rows():
    task = build_task("taxonomy", limit=62)
    tokenizer = word_tokenizer(document.text for document in task.pretraining_texts())
    # Targets of several lengths: the mean of means would not be the mean over tokens.
    encoded = encode_examples(tokenizer, task.train)
    for place, row in enumerate(encoded):
        extra = row["labels"][-1:] * (place % 5)
        row["input_ids"], row["labels"] = row["input_ids"] + extra, row["labels"] + extra
    return tokenizer, encoded


def small(tokenizer):
    return tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16).double()


@pytest.mark.parametrize("grouping", ["length", "none"])
def test_the_steps_are_those_of_one_large_batch(rows, grouping) -> None:
    """62 rows: five whole steps an epoch, and two rows that neither way sees before the next."""
    tokenizer, encoded = rows
    first, second = small(tokenizer), small(tokenizer)
    reports = [
        fit(model, tokenizer, encoded, settings.model_copy(update={"grouping": grouping}))
        for model, settings in ((first, WHOLE), (second, PARTS))
    ]
    assert reports[1].losses == pytest.approx(reports[0].losses, rel=1e-6)
    assert reports[0].tokens == reports[1].tokens
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weight, rtol=0, atol=1e-5)


def test_fewer_rows_than_a_step_takes(rows) -> None:
    tokenizer, encoded = rows
    reports = [fit(small(tokenizer), tokenizer, encoded[:7], settings) for settings in (WHOLE, PARTS)]
    assert reports[1].losses == pytest.approx(reports[0].losses, rel=1e-6)


def test_steps_are_counted_and_not_passes(rows) -> None:
    tokenizer, encoded = rows
    seen: list[int] = []
    options = FitOptions(on_step=lambda step, loss: seen.append(step))
    assert len(fit(small(tokenizer), tokenizer, encoded, PARTS, options).losses) == 9
    assert seen == list(range(1, 10))


def test_an_interrupted_run_goes_on_to_the_last_bit(rows, tmp_path: Path) -> None:
    tokenizer, encoded = rows
    settings = PARTS.model_copy(update={"checkpoint_every": 2})
    whole, again = small(tokenizer), small(tokenizer)
    losses = fit(whole, tokenizer, encoded, settings).losses

    def stop(step: int, loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(small(tokenizer), tokenizer, encoded, settings, FitOptions(stop, Checkpoints(tmp_path)))
    report = fit(again, tokenizer, encoded, settings, FitOptions(checkpoints=Checkpoints(tmp_path)))
    assert report.resumed_from == 6
    assert report.losses == losses
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_pass_that_is_not_finite_stops_at_once(rows) -> None:
    tokenizer, encoded = rows
    model, passes = small(tokenizer), []

    def poison(module, inputs, output):
        passes.append(1)
        return output * (float("nan") if len(passes) == 6 else 1.0)

    model.lm_head.register_forward_hook(poison)
    with pytest.raises(DivergedError, match="at step 2"):
        fit(model, tokenizer, encoded, PARTS)
