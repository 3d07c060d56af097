"""Adapters on quantised bases: those of bitsandbytes and torchao, on the CPU, where they are installed."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

from manifold_lora.errors import LinearOnlyError
from manifold_lora.models.tuner.config import ManifoldLoraConfig


def four_bit():
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )


def eight_bit():
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(load_in_8bit=True)


def torchao_int8():
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


@pytest.fixture(params=[four_bit, eight_bit, torchao_int8], ids=lambda make: make.__name__)
def quantised(request, model_folder):
    config = request.param()
    folder = model_folder("llama-64")
    return lambda: AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=torch.float32
    )


def served(model, tokens):
    """Logits as a server computes them; some kernels of bitsandbytes are for this alone."""
    with torch.no_grad():
        return model.eval()(tokens).logits


@pytest.mark.parametrize(
    "options", [{"curvature": {"mode": "learned", "kappa": -0.7}}, {"transform": "boost"}], ids=str
)
def test_an_adapter_on_a_quantised_base(quantised, shake, tokens, tmp_path, options):
    # Not eval yet: there bitsandbytes packs the weights for AVX-512, for good and without a gradient.
    base = quantised().train()
    expected = base(tokens).logits
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    model = get_peft_model(base, config)
    assert torch.equal(model(tokens).logits, expected)
    shake(model)
    model(tokens, labels=tokens).loss.backward()
    grads = [p.grad for name, p in model.named_parameters() if ".lora_" in name]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in grads)

    assert not torch.allclose(model(tokens).logits, expected)
    logits = served(model, tokens)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(quantised(), tmp_path)
    assert torch.equal(served(again, tokens), logits)

    layer = next(module for module in model.modules() if isinstance(module, LoraLayer))
    with pytest.raises(LinearOnlyError):
        model.merge_and_unload()
    with pytest.raises(LinearOnlyError):
        layer.get_delta_weight("default")
    assert not layer.merged
    assert torch.equal(served(model, tokens), logits)
