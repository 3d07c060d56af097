"""A step walks over no modules: what it would set is set once."""

import pytest

from manifold_lora.experiments.settings.run import TrainSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.encoding import encode_examples
from manifold_lora.experiments.training.train import fit
from manifold_lora.models.tiny import tiny_model, word_tokenizer


def test_modules_are_set_to_training_once_and_their_methods_are_their_own_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = build_task("taxonomy", limit=16)
    tokenizer = word_tokenizer(document.text for document in task.pretraining_texts())
    model = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16).eval()
    calls: list[bool] = []
    monkeypatch.setattr(model.get_input_embeddings(), "train", calls.append)
    fit(model, tokenizer, encode_examples(tokenizer, task.train), TrainSettings(steps=3, batch_size=4))
    assert calls == [True]
    assert not {"train", "zero_grad"} & set(vars(model))
    assert all(parameter.grad is None for parameter in model.parameters())
