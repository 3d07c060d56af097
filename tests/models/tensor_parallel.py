"""Run by torchrun in test_tensor_parallel: what adapting a model in two shards reports."""

import json
import sys

import torch.distributed as dist
from peft import get_peft_model
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig


def message(model, config) -> str:
    before = [(name, type(module)) for name, module in model.named_modules()]
    try:
        get_peft_model(model, config)
    except ManifoldLoraError as error:
        touched = [(name, type(module)) for name, module in model.named_modules()] != before
        return f"{'touched, ' if touched else ''}{error}"
    return "adapted"


if __name__ == "__main__":
    dist.init_process_group("gloo")
    folder, output = sys.argv[1:]
    shards = AutoModelForCausalLM.from_pretrained(folder, distributed_config=DistributedConfig(tp_size=2))
    found = {
        "weight": type(shards.model.layers[0].self_attn.q_proj.weight.data).__name__,
        "manifold": message(shards, ManifoldLoraConfig(r=2, target_modules=["q_proj", "o_proj"])),
        "bottleneck": message(shards, BottleneckConfig(bottleneck_size=2)),
    }
    sharded = fully_shard(AutoModelForCausalLM.from_pretrained(folder))
    found["fsdp2"] = message(sharded, ManifoldLoraConfig(r=2, target_modules=["q_proj", "o_proj"]))
    if dist.get_rank() == 0:
        with open(output, "w") as file:
            json.dump(found, file)
    dist.barrier()
    dist.destroy_process_group()
