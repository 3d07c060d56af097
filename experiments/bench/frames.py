"""What frames as weights cost a model beside LoRA, and what they keep: ``manifold-lora bench frames``.

Every round trains each arm for one step of AdamW, in a new random order on one thread, and takes CPU time; a
figure is the median over rounds of the ratio to LoRA of the same round, with quartiles. After the last round
stand how far the frames have drifted, and how far the merged model's logits are from the adapted one's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from manifold_lora.adapters.spec import LORA
from manifold_lora.experiments.bench.machine import one_thread
from manifold_lora.experiments.bench.rounds import Ratio, compare
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.models.load import load_base
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.frames import frame_drift, keep_frames

BASELINE = "lora"
WEIGHTS: dict[str, Any] = {"stiefel": "stiefel", "landing": {"step": "landing"}, "oblique": "oblique"}
HEAD = "| arm | step over LoRA's | ms a step | drift | merge |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class FrameCost:
    """One arm: its step over LoRA's, the largest drift, the merged logits' error over the largest logit."""

    arm: str
    ratio: Ratio
    drift: float
    merge: float

    def row(self) -> str:
        """A line of the table under ``HEAD``."""
        over, time = self.ratio, f"{self.ratio.milliseconds:.0f}"
        spread = f"{over.median:.3f} [{over.low:.3f}, {over.high:.3f}]"
        return f"| {self.arm} | {spread} | {time} | {self.drift:.1e} | {self.merge:.1e} |"


def measure_frames(
    base: str, arms: Sequence[str], rank: int, rows: int, length: int, rounds: int
) -> Iterator[FrameCost]:
    """The arms on one base in float32, every linear layer adapted; torch has one thread meanwhile."""
    with one_thread():
        models = {arm: _adapted(base, arm, rank) for arm in (BASELINE, *arms)}
        size = models[BASELINE].get_input_embeddings().weight.shape[0]
        ids = torch.randint(size, (rows, length), generator=torch.Generator().manual_seed(0))
        ratios = compare({arm: _trainer(model, ids) for arm, model in models.items()}, BASELINE, rounds)
        for arm, model in models.items():
            drift = max(frame_drift(model).values(), default=0.0)
            yield FrameCost(arm, ratios[arm], drift, _merge_error(model, ids))


def _adapted(base: str, arm: str, rank: int) -> PeftModel:
    torch.manual_seed(0)
    common: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}
    plain = LoraConfig(**common)
    framed = partial(ManifoldLoraConfig.from_spec, LORA, **common)
    config = plain if arm == BASELINE else framed(weight_manifold=WEIGHTS[arm])
    return adapt(load_base(base, dtype="float32")[0], config)


def _trainer(model: nn.Module, ids: Tensor) -> Callable[[], None]:
    """One step of AdamW at a time."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    keep_frames(optimizer, model)

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()

    return step


@torch.no_grad()
def _merge_error(model: PeftModel, ids: Tensor) -> float:
    before = model.eval()(input_ids=ids).logits
    after = model.merge_and_unload()(input_ids=ids).logits
    return ((after - before).abs().amax() / before.abs().amax()).item()


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora bench frames [--model smollm2] [--arm stiefel] [--rounds 10]``."""
    parser = PlainFlags(prog="manifold-lora bench frames", description=__doc__)
    parser.add_argument("--model", default="smollm2", help="a shipped name, a folder or a hub name")
    parser.add_argument("--arm", action="append", choices=list(WEIGHTS), help="may be repeated")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=4, help="sequences in a step")
    parser.add_argument("--length", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args(argv)
    sizes = (given.rank, given.rows, given.length, given.rounds)
    print(HEAD)
    for cost in measure_frames(given.model, given.arm or list(WEIGHTS), *sizes):
        print(cost.row(), flush=True)
    return 0
