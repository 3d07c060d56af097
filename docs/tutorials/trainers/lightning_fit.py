"""A curved adapter in Lightning: python lightning_fit.py BASE OUTPUT"""

import sys

from lightning import LightningModule, Trainer
from peft import get_peft_model
from torch.utils.data import DataLoader

from manifold_lora import ManifoldLoraConfig, calibrate, create_optimizer, load_base, save_adapter


class Adapted(LightningModule):
    """A model that answers with a loss, and AdamW that spares curvatures and scales the weight decay."""

    def training_step(self, rows):  # noqa: D102
        return self.model(**rows).loss

    def configure_optimizers(self):  # noqa: D102
        return create_optimizer(self.model, lr=1e-2)


def batch(texts):
    """Token ids; the loss counts no fillers."""
    found = tokenizer(texts, return_tensors="pt", padding=True)
    return {**found, "labels": found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)}


base, output = sys.argv[1:]
model, tokenizer = load_base(base)
config = ManifoldLoraConfig(
    r=4, lora_alpha=8, target_modules="all-linear", manifold="lorentz", curvature=-1.0
)
texts = [f"lca w{i} w{i + 1} => w{i + 2}" for i in range(16)]  # yours
adapted = Adapted()
adapted.model = get_peft_model(model, config)
calibrate(adapted.model, [batch(texts)])
trainer = Trainer(max_steps=8, logger=False, enable_checkpointing=False)
trainer.fit(adapted, DataLoader(texts, 4, collate_fn=batch))
save_adapter(adapted.model, output, tokenizer)
