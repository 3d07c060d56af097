"""Whole models with every linear layer adapted: a training step, and tokens written one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from manifold_lora.experiments.bench.contest import Contest
from manifold_lora.experiments.bench.contestants import DORA, OURS, adapted, configs
from manifold_lora.experiments.bench.cost import BASELINE, DTYPES, STEP, Cost, timed
from manifold_lora.experiments.bench.oracle import Results, check, gradients
from manifold_lora.experiments.bench.rounds import Pace
from manifold_lora.models.load import load_base
from manifold_lora.models.shipped import SHIPPED
from manifold_lora.models.tiny import tiny_model

LLAMA, TINY, SMOLLM2 = "Llama 25 M", "tiny Llama", "SmolLM2-135M"
BATCHES = (1, 16)
_PROMPT, _WRITTEN = 8, 16
# Rows and length of the batch that is checked: its last token is written, the others are the prompt.
_CHECKED = (16, 5)
# Rounding grows from layer to layer; a wrong sign or factor in one layer is tens of percent. In bfloat16
# outputs alone are compared: of thirty layers gradients keep no digit, LoRA's own differ by a half.
_TOLERANCES = {"float32": 5e-3, "bfloat16": 0.15}


def decode(batch: int) -> str:
    """The name of writing tokens for so many prompts."""
    return f"decode, batch {batch}"


@dataclass(frozen=True)
class ModelContest(Contest):
    """LoRA, DoRA and ours on a whole model."""

    base: Callable[[], PreTrainedModel]
    rank: int
    rows: int
    length: int
    step_asked: float

    def check(self) -> dict[str, float]:
        """``oracle.check`` of a step and of one written token."""
        models = self._models()
        work = partial(_work, ids=_ids(models[BASELINE], *_CHECKED), slopes=self.dtype == "float32")
        return check(self.where, self.dtype, models, work, _TOLERANCES)

    def costs(self, pace: Pace) -> Iterator[Cost]:
        """Times of a training step, and of tokens written for a few prompts."""
        models = self._models()
        ids = _ids(models[BASELINE], self.rows, self.length)
        own = (self.where, self.dtype)
        yield from timed(*own, STEP, models, partial(_step, ids=ids), pace)
        for batch in BATCHES:
            prompts = _ids(models[BASELINE], batch, _PROMPT)
            yield from timed(*own, decode(batch), models, partial(_write, ids=prompts), pace)

    def asked(self, what: str, contestant: str) -> float | None:
        """Of ours: a step by model, and decoding near LoRA."""
        if contestant != OURS:
            return None
        return {STEP: self.step_asked, decode(1): 1.05, decode(16): 1.15}[what]

    def _models(self) -> dict[str, nn.Module]:
        chosen = configs((BASELINE, DORA, OURS), self.rank, "all-linear")
        return {name: adapted(self.base, config, DTYPES[self.dtype]) for name, config in chosen.items()}


def model_contests(dtype: str) -> list[ModelContest]:
    """The models that are here."""
    found = [
        _contest(LLAMA, dtype, _llama, (16, 4, 128), 0.97),
        _contest(TINY, dtype, partial(tiny_model, 256), (2, 32, 32), 1.25),
    ]
    if has_smollm2():
        found.append(_contest(SMOLLM2, dtype, _smollm2, (16, 4, 128), 1.00))
    return found


def has_smollm2() -> bool:
    """Has somebody fetched it?"""
    return SHIPPED["smollm2"].path.is_file()


def _contest(
    name: str, dtype: str, base: Callable[[], PreTrainedModel], sizes: tuple[int, int, int], asked: float
) -> ModelContest:
    rank, rows, length = sizes
    return ModelContest(f"{name}, {rows} x {length} tokens, r {rank}", dtype, base, *sizes, asked)


def _llama() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=7,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=128,
    )
    return LlamaForCausalLM(config)


def _smollm2() -> PreTrainedModel:
    return load_base("smollm2", dtype="float32")[0]


def _ids(model: Any, rows: int, length: int) -> Tensor:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return torch.randint(3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


def _step(model: nn.Module, ids: Tensor) -> Tensor:
    model.train()
    model.zero_grad(set_to_none=True)
    output = model(input_ids=ids, labels=ids)
    output.loss.backward()
    logits: Tensor = output.logits
    return logits


def _write(model: Any, ids: Tensor) -> None:
    model.eval()
    count = {"max_new_tokens": _WRITTEN, "min_new_tokens": _WRITTEN}
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, **count)


def _work(model: nn.Module, dtype: torch.dtype, ids: Tensor, slopes: bool) -> Results:
    found = {"logits": _step(model, ids).detach()}
    if slopes:
        found |= gradients(model)
    for batch in BATCHES:
        with torch.no_grad():
            model.eval()
            past = model(input_ids=ids[:batch, :-1], use_cache=True).past_key_values
            written = model(input_ids=ids[:batch, -1:], past_key_values=past, use_cache=True)
        found[f"logits of a token written for {batch}"] = written.logits
    return found
