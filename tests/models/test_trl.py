"""TRL's SFTTrainer, where it is installed, takes the config as it takes LoRA's."""

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import AutoTokenizer, BitsAndBytesConfig

from manifold_lora.models.tuner.config import ManifoldLoraConfig

trl = pytest.importorskip("trl")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("quantised", [False, True], ids=["plain", "4-bit"])
def test_sft_trains_every_part_of_the_adapter(base, model_folder, tmp_path, dtype, quantised):
    options = {}
    if quantised:
        pytest.importorskip("bitsandbytes")
        options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
    config = ManifoldLoraConfig(
        r=4, target_modules=["q_proj"], curvature={"mode": "learned", "kappa": -0.7}, transform="boost"
    )
    arguments = trl.SFTConfig(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        bf16=dtype == torch.bfloat16,
    )
    trainer = trl.SFTTrainer(
        base(dtype=dtype, **options),
        arguments,
        train_dataset=Dataset.from_dict({"text": ["w1 w2 w3 w4 w5"] * 4}),
        processing_class=AutoTokenizer.from_pretrained(model_folder("llama")),
        peft_config=config,
    )
    adapter = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    start = {name: p.detach().clone() for name, p in adapter.items()}
    trainer.train()
    assert any(".curvature." in name for name in adapter)
    geometry = [p for name, p in adapter.items() if ".curvature." in name or ".norm_scaling." in name]
    assert {p.dtype for p in geometry} == {torch.float32}
    assert all(not torch.equal(p, start[name]) for name, p in adapter.items())
    trainer.save_model(str(tmp_path / "model"))
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "manifold-lora"
    assert "pip install manifold-lora" in "\n".join(card.text.strip().splitlines()[:5])
