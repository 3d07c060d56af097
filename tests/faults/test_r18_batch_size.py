"""R18: greedy answers of every arm are the same one by one, by fours and by eights, in float32."""

from pathlib import Path

import pytest
import torch
from fault_runs import load_small, save_base, small_task

from manifold_lora.experiments.runs.evaluate import evaluate
from manifold_lora.experiments.tasks import Example, build_task


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def prompts() -> list[Example]:
    """200 prompts of two to six words, so that batches are padded."""
    chosen = build_task("taxonomy").train[:200]
    cut = [" ".join(example.prompt.split() * 2) for example in chosen]
    lengths = [2 + place % 5 for place in range(200)]
    return [
        Example(example.id, " ".join(text.split()[:length]), example.target, example.answer)
        for example, text, length in zip(chosen, cut, lengths, strict=True)
    ]


def answers(arm: str, base: Path, prompts: list[Example]) -> list[tuple[str, ...]]:
    """The outputs for each prompt at batch 1, 4 and 8, by an adapter far from its start."""
    small = load_small(arm, base)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in small.model.named_parameters():
            # Large weights make an untrained base decide: every step has a clear winner.
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
            if ".lora_" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    runs = [
        [
            item.output
            for item in evaluate(small.model, small.adapted.tokenizer, small_task(), prompts, size, 3)
        ]
        for size in (1, 4, 8)
    ]
    return list(zip(*runs, strict=True))


def count(arm: str, base: Path, prompts: list[Example], tally) -> None:
    message = answers(arm, base, prompts)
    assert len({outputs[0] for outputs in message}) > 10
    same = sum(len(set(outputs)) == 1 for outputs in message)
    tally("R18", f"{arm}: same answers at batch 1, 4, 8", same, 200)


@pytest.mark.parametrize("arm", ["direct"])
def test_one_arm(arm: str, base: Path, prompts: list[Example], tally) -> None:
    count(arm, base, prompts, tally)


@pytest.mark.slow
def test_eight_arms(arm: str, base: Path, prompts: list[Example], tally) -> None:
    count(arm, base, prompts, tally)
