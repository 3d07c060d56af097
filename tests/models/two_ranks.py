"""Run by torchrun in test_two_ranks: three steps of each arm on two ranks against the same steps on one."""

import json
import sys

import torch
import torch.distributed as dist
from peft import get_peft_model
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

from manifold_lora.models.optim import create_optimizer
from manifold_lora.models.tuner.config import ManifoldLoraConfig

LEARNED = {"mode": "learned", "kappa": -0.7}
HALVES = [{"share": 0.5, "name": "lorentz"}, {"share": 0.5, "name": "sphere"}]
ARMS = {
    "lora": {"manifold": "euclidean", "norm_scaling": "identity"},
    "tangent": {"transform": "tangent"},
    "direct": {"curvature": LEARNED},
    "boost": {"transform": "boost", "curvature": LEARNED},
    "poincare": {"manifold": "poincare"},
    "sphere": {"manifold": "sphere"},
    "token": {"curvature": {"mode": "token", "kappa": -0.7}},
    "shared": {"curvature": {**LEARNED, "shared": True}},
    "shared scale": {"norm_scaling": {"mode": "learned", "shared": True}},
    "product": {"manifold": {"name": "product", "parts": HALVES}},
}
SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}


def build(arm: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=2))
    model = get_peft_model(base, ManifoldLoraConfig(r=4, target_modules=["q_proj", "v_proj"], **arm))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return model.train()


def losses(model: torch.nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    optimizer, seen = create_optimizer(model, 1e-2), []
    for _ in range(3):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.detach())
    return seen


def spread(model: torch.nn.Module, kind: str) -> torch.nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    # FSDP2 wants a parameter in one group: with a shared curvature or scale the whole model is one.
    if not shares(model):
        for layer in model.get_base_model().model.layers:
            fully_shard(layer)
    return fully_shard(model)


def shares(model: torch.nn.Module) -> bool:
    return len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.named_parameters()))


def difference(arm: dict, kind: str) -> float:
    """The largest difference between the mean loss over two ranks and the loss of one process."""
    rank, batch = dist.get_rank(), torch.randint(0, 64, (4, 9), generator=torch.Generator().manual_seed(2))
    alone = losses(build(arm), batch)
    model = build(arm)
    if any(parameter.dim() == 0 for parameter in model.parameters()):
        return float("inf")
    together = losses(spread(model, kind), batch[2 * rank : 2 * rank + 2])
    for loss in together:
        dist.all_reduce(loss)
    return max(abs(float(two / 2 - one)) for two, one in zip(together, alone, strict=True))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    found = {
        f"{kind} {name}": difference(arm, kind) for kind in ("ddp", "fsdp2") for name, arm in ARMS.items()
    }
    if dist.get_rank() == 0:
        with open(sys.argv[1], "w") as file:
            json.dump(found, file)
    dist.destroy_process_group()
