"""What adapted layers see: only tokens that count, in evaluation mode, or a refusal."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.token_inputs import visit_inputs


def test_a_model_without_an_active_manifold_adapter_is_refused(base, adapted, tokens):
    plain = get_peft_model(base(), LoraConfig(target_modules=["q_proj"]))
    switched = adapted()
    switched.add_adapter("second", ManifoldLoraConfig(r=2, target_modules=["q_proj"]))
    switched.base_model.set_adapter([])
    for model in (plain, switched):
        with pytest.raises(ManifoldLoraError, match="adapted layers: got 'PeftModel"):
            visit_inputs(model, [{"input_ids": tokens}], lambda *_: None)


@pytest.mark.parametrize(
    ("batches", "message"), [(0, "batches: got 0"), (1, "tokens that reach .*q_proj: got 0")]
)
def test_no_token_is_refused(adapted, tokens, batches, message):
    empty = [{"input_ids": tokens, "attention_mask": torch.zeros_like(tokens)}] * batches
    with pytest.raises(ManifoldLoraError, match=message):
        visit_inputs(adapted(), empty, lambda *_: None)


def test_padding_is_left_out_and_the_mode_is_restored(adapted, tokens):
    model, seen, training = adapted(lora_dropout=0.5).train(), {}, []
    mask = torch.ones_like(tokens)
    mask[0, 5:] = 0

    def see(name, layer, x):
        seen[name] = len(x)
        training.append(layer.training)

    visit_inputs(model, [{"input_ids": tokens, "attention_mask": mask}], see)
    assert set(seen.values()) == {int(mask.sum())}
    assert len(seen) == 4
    assert not any(training)
    assert model.training
