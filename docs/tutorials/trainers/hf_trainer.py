"""A curved adapter in the Trainer of transformers: python hf_trainer.py BASE OUTPUT"""

import sys

from datasets import Dataset
from peft import get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from manifold_lora import CalibrationCallback, LivenessCallback, ManifoldLoraConfig, load_base, save_adapter

base, output = sys.argv[1:]
model, tokenizer = load_base(base)
config = ManifoldLoraConfig(
    r=4, lora_alpha=8, target_modules="all-linear", manifold="lorentz", curvature=-1.0
)
texts = [f"lca w{i} w{i + 1} => w{i + 2}" for i in range(16)]  # yours
arguments = TrainingArguments(output, max_steps=8, learning_rate=1e-2, report_to=[], save_strategy="no")
trainer = Trainer(
    get_peft_model(model, config),
    arguments,
    DataCollatorForLanguageModeling(tokenizer, mlm=False),
    Dataset.from_list([dict(tokenizer(text)) for text in texts]),
    callbacks=[CalibrationCallback(), LivenessCallback()],
)
trainer.train()
save_adapter(trainer.model, output, tokenizer)
