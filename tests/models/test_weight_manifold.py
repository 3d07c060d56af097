"""Frames as low-rank weights in PEFT: start, training, drift, saving, merging, folding to LoRA."""

import warnings

import pytest
import torch
from peft import PeftModel
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from manifold_lora.adapters.weights import WeightSpec
from manifold_lora.errors import LinearOnlyError, ManifoldLoraError, UnknownNameError
from manifold_lora.models import (
    FramesCallback,
    LivenessCallback,
    calibrate,
    export_lora,
    fit_layers,
    frame_drift,
    keep_frames,
    load_adapter,
    save_adapter,
)
from manifold_lora.models.first_gradient import gradient_ratio
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.frames import DriftWarning
from manifold_lora.models.tuner.variant import CORE

LINEAR = {"manifold": "euclidean", "norm_scaling": "identity"}
KINDS = {
    "stiefel": "stiefel",
    "diagonal": {"core": "diagonal"},
    "landing": {"step": "landing"},
    "oblique": "oblique",
    "three factors": "free",
    "A alone": {"A": "stiefel", "B": "free", "core": "none"},
}


def train(model, tokens, steps=6, lr=2e-2, kept=True):
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.1)
    end = keep_frames(optimizer, model) if kept else lambda: None
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
    end()
    return loss.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arm", [LINEAR, {"manifold": "lorentz"}], ids=["linear", "lorentz"])
def test_the_start_is_the_base_and_training_stays_on_the_manifold(base, adapted, tokens, kind, arm):
    """The output starts as the base's to the last bit; the loss falls; frames stay frames."""
    model = adapted(weight_manifold=KINDS[kind], **arm)
    assert torch.equal(model.eval()(tokens).logits, base()(tokens).logits)
    first = model(tokens, labels=tokens).loss.item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # uncalibrated, which is not what is looked at
        last = train(model, tokens)
    assert last < first
    drift = frame_drift(model)
    assert len(drift) == {"three factors": 0, "A alone": 4}.get(kind, 8)
    assert all(value < (0.3 if kind == "landing" else 1e-5) for value in drift.values())


def test_without_a_keeper_frames_drift_and_it_is_said(adapted, tokens):
    model = adapted(weight_manifold="stiefel", **LINEAR)
    with pytest.warns(DriftWarning, match=r"lora_A.default.weight is .* off its frame.*FramesCallback"):
        train(model, tokens, kept=False)
    assert max(frame_drift(model).values()) > 0.03


@pytest.mark.parametrize("kind", ["stiefel", "diagonal", "A alone"])
def test_saved_and_loaded_it_is_the_same(base, adapted, tokens, tmp_path, kind):
    """By our loader, which checks, and by peft's; the config says what was asked."""
    model = adapted(weight_manifold=KINDS[kind], **LINEAR)
    train(model, tokens)
    expected = model.eval()(tokens).logits
    folder = save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(folder, base())
    assert torch.equal(loaded.eval()(tokens).logits, expected)
    assert torch.equal(PeftModel.from_pretrained(base(), folder).eval()(tokens).logits, expected)
    assert loaded.peft_config["default"].weights() == WeightSpec.parse(KINDS[kind])
    assert frame_drift(loaded) == frame_drift(model)


@pytest.mark.parametrize("kind", KINDS)
def test_it_merges_and_folds_into_plain_lora(base, adapted, tokens, tmp_path, kind):
    """The update is linear: weights take it whole, and so does an ordinary LoRA of the same rank."""
    model = adapted(weight_manifold=KINDS[kind], **LINEAR)
    train(model, tokens)
    expected = model.eval()(tokens).logits
    text = [{"input_ids": tokens}]
    fits = fit_layers(model, text, text)
    assert {fit.name for fit in fits.values()} == {"exact"}
    folder = export_lora(model, fits, tmp_path / "lora")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = load_adapter(folder, base(), check_base=False)
    torch.testing.assert_close(plain.eval()(tokens).logits, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(model.merge_and_unload()(tokens).logits, expected, rtol=0, atol=2e-6)


def test_a_curved_adapter_on_frames_refuses_to_merge(adapted):
    with pytest.raises(LinearOnlyError):
        adapted(weight_manifold="stiefel", manifold="lorentz").merge_and_unload()


def test_weighted_sums_refuse_a_core(adapted, tokens):
    model = adapted(weight_manifold="stiefel", **LINEAR)
    train(model, tokens, steps=2)
    with pytest.raises(LinearOnlyError, match="norm scaling or core"):
        model.add_weighted_adapter(["default"], [1.0], "sum", "linear")


def test_adapters_with_and_without_a_core_live_on_one_model(adapted, tokens):
    """Added, switched and deleted: each gives what it gives alone."""
    model = adapted(weight_manifold="stiefel", **LINEAR).eval()
    plain = ManifoldLoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **LINEAR)
    model.add_adapter("plain", plain)
    first = model(tokens).logits
    model.set_adapter("plain")
    assert not torch.equal(model(tokens).logits, first)
    model.delete_adapter("default")
    model.set_adapter("plain")
    assert not any("default" in name for name, _ in model.named_parameters())
    assert not frame_drift(model)


def test_a_decoded_token_and_a_batch_agree(adapted, tokens):
    model = adapted(weight_manifold="stiefel", manifold="lorentz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        train(model, tokens)
    model.eval()
    layer = next(module for module in model.modules() if hasattr(module, CORE))
    x = torch.randn(5, layer.in_features)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([layer(row[None]) for row in x]), layer(x))


def test_calibration_and_the_first_gradient_know_the_core(adapted, tokens):
    """A core of 0 is an untrained adapter; its first gradient over that of B core A is the gain."""
    batch = {"input_ids": tokens, "labels": tokens}
    model = adapted(weight_manifold="stiefel", manifold="lorentz")
    calibrate(model, [batch])
    assert 1.0 < gradient_ratio(model, batch) < 4.0
    assert gradient_ratio(adapted(weight_manifold="stiefel", **LINEAR), batch) == pytest.approx(1.0)
    train(model, tokens, steps=2)
    with pytest.raises(ManifoldLoraError, match="not trained yet"):
        calibrate(model, [batch])


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        ids = torch.randint(4, 60, (6,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


def test_in_a_trainer(adapted, tmp_path):
    model = adapted(weight_manifold={"core": "diagonal"}, **LINEAR)
    args = TrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=4, learning_rate=5e-2, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    callbacks = [FramesCallback(), LivenessCallback()]
    trainer = Trainer(model, args, train_dataset=Rows(), callbacks=callbacks)
    trainer.train()
    assert max(frame_drift(model).values()) < 1e-5
    core = next(p for name, p in model.named_parameters() if f".{CORE}." in name)
    assert core.shape == (4,)
    assert core.any()
    # The optimiser is the user's again.
    assert not trainer.optimizer.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("stiefl", r"weight_manifold.A: got 'stiefl'.*did you mean 'stiefel'"),
        ({"core": "half"}, r"weight_manifold.core: got 'half'; allowed: full, diagonal, none"),
        ({"cor": "full"}, "key of weight_manifold: got 'cor'"),
        ({"core": "none"}, "weight_manifold.B with core none: got 'stiefel'; allowed: free"),
        ({"A": "free", "B": "free", "core": "none"}, "leave weight_manifold out"),
        ({"A": "oblique", "B": "free", "step": "landing"}, "weight_manifold.step: got 'landing'"),
        ({"A": ["stiefel"]}, "weight_manifold.A"),
        (7, "weight_manifold: got 7; allowed: a name, or a mapping"),
    ],
)
def test_bad_weight_manifolds_are_one_line(given, message):
    with pytest.raises(ManifoldLoraError, match=message) as error:
        ManifoldLoraConfig(weight_manifold=given)
    assert "\n" not in str(error.value)
    if given == "stiefl":
        assert isinstance(error.value, UnknownNameError)


def test_a_rank_above_a_layers_width_is_refused_before_the_model_is_touched(base):
    from manifold_lora.models import adapt

    model, config = base(), {"target_modules": ["q_proj", "v_proj"], "weight_manifold": "stiefel", **LINEAR}
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ManifoldLoraError, match=r"v_proj with weight_manifold: got 17; allowed: at most 16"):
        adapt(model, ManifoldLoraConfig(r=17, **config))
    assert [name for name, _ in model.named_modules()] == names
    adapt(model, ManifoldLoraConfig(r=17, rank_pattern={"v_proj": 16}, **config))
