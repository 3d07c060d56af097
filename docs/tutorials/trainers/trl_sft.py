"""A curved adapter in TRL's SFTTrainer: python trl_sft.py BASE OUTPUT"""

import sys

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from manifold_lora import CalibrationCallback, ManifoldLoraConfig, load_base, save_adapter

base, output = sys.argv[1:]
model, tokenizer = load_base(base)
config = ManifoldLoraConfig(
    r=4, lora_alpha=8, target_modules="all-linear", manifold="lorentz", curvature=-1.0
)
texts = [{"prompt": f"lca w{i} w{i + 1} =>", "completion": f" w{i + 2}"} for i in range(16)]  # yours
on_cpu = not torch.cuda.is_available()
trainer = SFTTrainer(
    model,
    SFTConfig(output, max_steps=8, learning_rate=1e-2, report_to=[], save_strategy="no", use_cpu=on_cpu),
    train_dataset=Dataset.from_list(texts),
    processing_class=tokenizer,
    peft_config=config,
    callbacks=[CalibrationCallback()],
)
trainer.train()
save_adapter(trainer.model, output, tokenizer)
