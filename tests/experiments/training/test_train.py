"""Training: the seed decides, the target alone counts, nothing that is not finite gets through."""

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks import Task, build_task
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.experiments.training.encoding import (
    IGNORED,
    encode_examples,
    encode_pairs,
    pad_left,
    pad_right,
)
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.sampler import LengthPools
from manifold_lora.experiments.training.train import TrainReport, fit
from manifold_lora.manifolds.curvature import Curvature
from manifold_lora.models.liveness import DeadLayerError
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig

SETTINGS = TrainSettings(learning_rate=1e-2, steps=12, batch_size=8)


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("taxonomy", limit=64)


@pytest.fixture(scope="module")
def tokenizer(task: Task) -> PreTrainedTokenizerFast:
    return word_tokenizer(document.text for document in task.pretraining_texts())


def small(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return small(tokenizer)


Run = Callable[..., TrainReport]


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerFast, task: Task) -> Run:
    def run(model: PreTrainedModel, settings: TrainSettings = SETTINGS, **arguments: object) -> TrainReport:
        return fit(
            model, tokenizer, encode_examples(tokenizer, task.train), settings, FitOptions(**arguments)
        )

    return run


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_seed_decides(run: Run, tokenizer: PreTrainedTokenizerFast) -> None:
    first, same, other = (small(tokenizer) for _ in range(3))
    losses = run(first).losses
    torch.rand(7)  # whatever was drawn before must not matter
    assert run(same).losses == losses
    assert run(other, TrainSettings(learning_rate=1e-2, steps=12, batch_size=8, seed=1)).losses != losses
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_loss_falls_and_the_report_counts(run: Run, model: PreTrainedModel, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    report = run(
        model,
        TrainSettings(learning_rate=3e-2, steps=60, batch_size=16),
        on_step=lambda *at: seen.append(at),
    )
    assert sum(report.losses[-5:]) < 0.8 * sum(report.losses[:5])
    assert seen == list(enumerate(report.losses, start=1))
    assert len(report.losses) == 60
    assert report.tokens == 60 * 16 * 7  # <s> lca a b => c </s>
    assert report.tokens_per_second == pytest.approx(report.tokens / report.seconds)
    assert report.peak_memory_mb > 10
    assert report.trainable_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert not list(tmp_path.rglob("*.*")), "nothing is written unless asked for"


def test_the_first_loss_is_the_mean_over_target_tokens(
    run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task
) -> None:
    """The oracle: cross-entropy written out, over the answer and the end of sequence alone."""
    before = weights(model)
    report = run(model, TrainSettings(learning_rate=1e-3, steps=1, batch_size=64))
    model.load_state_dict(before)
    losses = []
    for example in task.train:
        ids = tokenizer(f"{example.prompt} {example.target}")["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        losses += [-float(logits[at - 1, ids[at]]) for at in (len(ids) - 2, len(ids) - 1)]
    assert report.losses[0] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def poison_weight(model: PreTrainedModel) -> None:
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = math.nan


def poison_activation(model: PreTrainedModel) -> None:
    model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: output * math.inf)


def poison_gradient(model: PreTrainedModel) -> None:
    model.model.layers[0].mlp.up_proj.weight.register_hook(lambda gradient: gradient * math.inf)


def poison_loss(model: PreTrainedModel) -> None:
    model.lm_head.register_forward_hook(lambda module, inputs, output: output * math.nan)


@pytest.mark.parametrize(
    ("poison", "named"),
    [
        (poison_weight, "mlp.up_proj.weight not finite"),
        (poison_activation, "output of model.layers.0.mlp not finite"),
        (poison_gradient, "gradient of model.layers.0.mlp.up_proj.weight not finite"),
        (poison_loss, "output of lm_head not finite"),
    ],
)
def test_what_is_not_finite_stops_at_once_and_is_named(
    poison: Callable[[PreTrainedModel], None], named: str, run: Run, model: PreTrainedModel, tmp_path: Path
) -> None:
    poison(model)
    steps: list[int] = []
    before = weights(model)
    with pytest.raises(DivergedError, match="at step 1") as caught:
        run(model, on_step=lambda step, loss: steps.append(step))
    assert named in str(caught.value)
    assert steps == []
    assert all(
        torch.equal(value, before[name]) or value.isnan().any() for name, value in weights(model).items()
    )
    assert not list(tmp_path.rglob("*.*"))


def test_a_run_that_blows_up_is_stopped(run: Run, model: PreTrainedModel) -> None:
    with pytest.raises(DivergedError, match="lower the learning rate"):
        run(model, TrainSettings(learning_rate=1e30, steps=12, batch_size=8, warmup_ratio=0.0))


class Stop(Exception):
    """An interruption."""


def interrupt(at: int) -> Callable[[int, float], None]:
    def on_step(step: int, loss: float) -> None:
        if step == at:
            raise Stop

    return on_step


class Seen:
    """Something carried along: the steps it was reported of."""

    def __init__(self, stop_at: int = 0) -> None:
        self.steps: list[int] = []
        self.stop_at = stop_at

    def __call__(self, step: int, loss: float) -> None:
        self.steps.append(step)
        if step == self.stop_at:
            raise Stop

    def state(self) -> dict[str, object]:
        return {"steps": self.steps}

    def restore(self, state: dict[str, list[int]]) -> None:
        self.steps = list(state["steps"])


@pytest.mark.parametrize("stopped_at", [9, 14, 17, 20], ids=lambda step: f"step {step}")
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    stopped_at: int, run: Run, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Dropout and an epoch of eight batches: random states and data order have to be where they were."""

    def fresh() -> PreTrainedModel:
        model = small(tokenizer)
        model.model.layers[0].mlp.register_forward_hook(
            lambda module, inputs, output: torch.nn.functional.dropout(output, 0.3, module.training)
        )
        return model

    whole, killed, resumed = fresh(), fresh(), fresh()
    settings = TrainSettings(learning_rate=1e-2, steps=20, batch_size=8, checkpoint_every=8)
    expected = run(whole, settings)
    seen = Seen(stopped_at)
    with pytest.raises(Stop):
        run(killed, settings, on_step=seen, checkpoints=Checkpoints(tmp_path), probe=seen)
    torch.rand(5)  # another process has another random state
    seen = Seen()
    report = run(resumed, settings, on_step=seen, checkpoints=Checkpoints(tmp_path), probe=seen)
    assert report.resumed_from == (8 if stopped_at < 17 else 16)
    assert seen.steps == list(range(1, 21))
    assert (report.losses, report.tokens) == (expected.losses, expected.tokens)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint-000016", "checkpoint-000020"]


def test_a_run_that_was_finished_is_not_trained_again(
    run: Run, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    settings = TrainSettings(learning_rate=1e-2, steps=5, batch_size=8, checkpoint_every=4)
    first, again = small(tokenizer), small(tokenizer)
    report = run(first, settings, checkpoints=Checkpoints(tmp_path))
    second = run(again, settings, checkpoints=Checkpoints(tmp_path), on_step=interrupt(6))
    assert (second.resumed_from, second.losses) == (5, report.losses)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_checkpoint_of_another_model_is_refused(
    run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    settings = TrainSettings(learning_rate=1e-2, steps=5, batch_size=8, checkpoint_every=2)
    with pytest.raises(Stop):
        run(model, settings, on_step=interrupt(3), checkpoints=Checkpoints(tmp_path))
    other = tiny_model(len(tokenizer), hidden_size=32, layers=1, heads=2, intermediate_size=16)
    with pytest.raises(ManifoldLoraError, match="the trainable parameters of this model"):
        run(other, settings, checkpoints=Checkpoints(tmp_path))


def test_geometry_has_its_own_rate_and_no_decay(run: Run, model: PreTrainedModel) -> None:
    model.curvature = Curvature(1.0, "free")
    plain = model.forward

    def curved(*args: object, **kwargs: object) -> object:
        output = plain(*args, **kwargs)
        output["loss"] = output["loss"] + 1e-3 * model.curvature.raw.sum()
        return output

    model.forward = curved
    # One step of Adam moves a parameter by its learning rate, whatever the size of the gradient.
    run(
        model,
        TrainSettings(
            learning_rate=1e-3,
            steps=1,
            batch_size=8,
            weight_decay=100.0,
            geometry_lr_factor=5.0,
            warmup_ratio=0.0,
        ),
    )
    assert model.curvature.raw.item() == pytest.approx(1 - 5e-3, rel=1e-4)


def test_nothing_to_learn_from_is_refused(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    with pytest.raises(ManifoldLoraError, match="training rows: got 0"):
        fit(model, tokenizer, [], SETTINGS)


def test_nothing_to_train_is_refused(run: Run, model: PreTrainedModel) -> None:
    model.requires_grad_(False)
    with pytest.raises(ManifoldLoraError, match="trainable parameters"):
        run(model)


def test_pairs_and_padding(tokenizer: PreTrainedTokenizerFast, task: Task) -> None:
    first, second = encode_pairs(tokenizer, ["lca", "lca lca"], ["up", ""])
    lca, up = tokenizer.convert_tokens_to_ids(["▁lca", "▁up"])
    assert first == {"input_ids": [1, lca, up, 2], "labels": [IGNORED, IGNORED, up, 2]}
    assert second == {"input_ids": [1, lca, lca, 2], "labels": [IGNORED, IGNORED, IGNORED, 2]}
    batch = pad_right([first, {"input_ids": [1], "labels": [2]}], filler=0)
    assert batch["input_ids"][1].tolist() == [1, 0, 0, 0]
    assert batch["attention_mask"][1].tolist() == [1, 0, 0, 0]
    assert batch["labels"][1].tolist() == [2, IGNORED, IGNORED, IGNORED]
    left = pad_left([[1, lca], [1]], filler=0)
    assert left["input_ids"].tolist() == [[1, lca], [0, 1]]
    assert left["attention_mask"].tolist() == [[1, 1], [0, 1]]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 3))
def test_every_example_is_drawn_once_an_epoch(lengths: list[int], batch_size: int, seed: int) -> None:
    sampler = LengthPools(lengths, batch_size, seed)
    first = list(sampler)
    assert sorted(first) == list(range(len(lengths)))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(len(lengths)))


def test_pools_pad_less_and_change_from_epoch_to_epoch() -> None:
    lengths = [1 + index % 50 for index in range(800)]
    sampler = LengthPools(lengths, 16, seed=0)

    def padded(order: list[int]) -> int:
        batches = [order[at : at + 16] for at in range(0, 800, 16)]
        return sum(16 * max(lengths[index] for index in batch) for batch in batches)

    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert padded(first) < 0.7 * padded(Random(0).sample(range(800), 800))
    alone = list(LengthPools(lengths, 16, seed=0, grouped=False))
    assert sorted(alone) == list(range(800))
    assert padded(alone) > padded(first) / 0.7


def test_an_adapted_layer_that_the_model_bypasses_ends_the_run_by_name(run, model) -> None:
    adapted = adapt(model, ManifoldLoraConfig(r=2, target_modules=["up_proj", "q_proj"]))
    block = model.get_submodule("model.layers.0.mlp")
    block.forward = lambda x: block.down_proj(linear(x, block.up_proj.weight))
    before = weights(adapted)
    with pytest.raises(DeadLayerError, match=r"mlp\.up_proj.*never called.*1 of 2"):
        run(adapted)
    assert all(torch.equal(value, before[name]) for name, value in weights(adapted).items())
