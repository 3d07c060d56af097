"""A curved adapter sharded by accelerate: torchrun --nproc-per-node 2 accelerate_fsdp2.py BASE OUTPUT"""

import sys

from accelerate import Accelerator, FullyShardedDataParallelPlugin
from peft import get_peft_model
from torch.utils.data import DataLoader

from manifold_lora import ManifoldLoraConfig, calibrate, create_optimizer, load_base, save_adapter

base, output = sys.argv[1:]
model, tokenizer = load_base(base)
config = ManifoldLoraConfig(
    r=4, lora_alpha=8, target_modules="all-linear", manifold="lorentz", curvature=-1.0
)
texts = [f"lca w{i} w{i + 1} => w{i + 2}" for i in range(16)]  # yours


def batch(texts):
    """Token ids; the loss counts no fillers."""
    found = tokenizer(texts, return_tensors="pt", padding=True)
    return {**found, "labels": found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)}


model = get_peft_model(model, config)
calibrate(model, [batch(texts)])  # while the layers are whole
fsdp2 = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
accelerator = Accelerator(fsdp_plugin=fsdp2)
loader = DataLoader(texts, 4, collate_fn=batch, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, create_optimizer(model, lr=1e-2), loader)
for _ in range(4):
    for rows in loader:
        accelerator.backward(model(**rows).loss)
        optimizer.step()
        optimizer.zero_grad()
state = accelerator.get_state_dict(model)  # gathered
if accelerator.is_main_process:
    whole = get_peft_model(load_base(base)[0], config)
    whole.load_state_dict(state)
    save_adapter(whole, output, tokenizer)
