"""Run by torchrun: three steps of each arm on two ranks against the same steps in one process.

``torchrun --nproc_per_node=2 fault_ranks.py OUT ARM ...`` writes ``OUT/found.json``.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from fault_runs import settings_of
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from manifold_lora.experiments.methods.config import peft_config
from manifold_lora.models.optim import create_optimizer
from manifold_lora.models.tiny import tiny_model
from manifold_lora.models.tuner.apply import adapt

VOCABULARY, STEPS = 64, 3


def build(arm: str) -> PeftModel:
    """The arm off its start, without dropout, which ranks draw differently."""
    torch.manual_seed(0)
    settings = settings_of(arm, Path("unused")).adapter.model_copy(update={"dropout": 0.0})
    model = adapt(tiny_model(VOCABULARY, hidden_size=32), peft_config(settings, {}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name and parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.train()


def losses(model: nn.Module, batch: Tensor) -> list[Tensor]:
    optimizer, seen = create_optimizer(model, 1e-2), []
    for _ in range(STEPS):
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.detach())
    return seen


def spread(model: PeftModel, kind: str) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    for layer in model.get_base_model().model.layers:
        fully_shard(layer)
    return fully_shard(model)


def compare(arm: str, kind: str) -> dict[str, float]:
    """The largest gap between the mean loss over two ranks and the loss of one process."""
    rank, batch = (
        dist.get_rank(),
        torch.randint(4, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(2)),
    )
    model = build(arm)
    zero_dim = sum(parameter.dim() == 0 for parameter in model.parameters())
    alone = losses(build(arm), batch)
    together = losses(spread(model, kind), batch[2 * rank : 2 * rank + 2])
    for loss in together:
        dist.all_reduce(loss)
    gap = max(abs(float(two / 2 - one)) for two, one in zip(together, alone, strict=True))
    return {"gap": gap, "zero_dim": zero_dim}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    found = {f"{kind} {arm}": compare(arm, kind) for kind in ("ddp", "fully_shard") for arm in sys.argv[2:]}
    if dist.get_rank() == 0:
        (Path(sys.argv[1]) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()
