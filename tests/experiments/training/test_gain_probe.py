"""A gain that is no number ends a run with its reason, before it is trained."""

import math

import pytest

from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training import gain_probe
from manifold_lora.experiments.training.divergence import DivergedError
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig


@pytest.fixture
def probe():
    task = build_task("taxonomy")
    tokenizer = word_tokenizer(f"{example.prompt} {example.target}" for example in task.train)
    model = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32)
    config = ManifoldLoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    return gain_probe.GainProbe(adapt(model, config), tokenizer, task.validation[:8], 8)


def test_it_measures_five_times(probe):
    for step in range(9):
        probe(step)
    (name,) = probe.measured
    assert len(probe.measured[name]) == 5
    assert probe.median()[name] == pytest.approx(math.sinh(1.0), rel=0.2)


def test_an_infinite_gain_is_refused_by_name(probe, monkeypatch):
    monkeypatch.setattr(gain_probe, "measure_gain", lambda model, batches: {"layers.0.down_proj": math.inf})
    with pytest.raises(DivergedError, match=r"layers\.0\.down_proj at step 0.*norm_scaling"):
        probe(0)
