"""The cost benchmark: interleaved, all contestants, memory counted right."""

import json

import pytest
import torch

from manifold_lora.experiments.bench import adapters
from manifold_lora.experiments.bench.contestants import BASELINE, OURS, one_layer
from manifold_lora.experiments.bench.memory import peak_bytes, saved_bytes
from manifold_lora.experiments.bench.rounds import compare


def test_peak_counts_what_lives_together() -> None:
    x = torch.randn(1000, 1000)

    def in_turn() -> torch.Tensor:
        first = x * 2
        del first
        return (x * 3) * 2

    assert peak_bytes(in_turn) == 2 * x.numel() * 4
    assert peak_bytes(lambda: [x + 1 for _ in range(5)]) == 5 * x.numel() * 4


def test_saved_counts_a_storage_once_and_no_parameter() -> None:
    layer, x = torch.nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)
    assert saved_bytes(layer, lambda: (layer(x) * layer(x)).sum()) == (4 * 8 + 2 * 4 * 8) * 4


def test_every_round_runs_everyone_in_another_order() -> None:
    order: list[str] = []
    ratios = compare({name: lambda name=name: order.append(name) for name in "abc"}, "a", rounds=30)
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) == 6
    assert ratios["a"].median == 1.0


def test_ours_keeps_lora_and_twenty_bytes_a_token() -> None:
    tokens, rank = 64, 4
    models = one_layer((tokens, 96, 80, rank), torch.float32)
    x = torch.randn(tokens, 96, requires_grad=True)
    ours, lora = (saved_bytes(models[name], lambda name=name: models[name](x)) for name in (OURS, BASELINE))
    assert ours <= lora + 20 * tokens + 8 * rank * rank


def test_contestants_agree_where_they_should() -> None:
    shape = (16, 32, 24, 4)
    models, x = one_layer(shape, torch.float32), torch.randn(16, 32)
    with torch.no_grad():
        for model in models.values():
            for key, parameter in model.named_parameters():
                if "lora" in key and "manifold" not in key:
                    generator = torch.Generator().manual_seed(parameter.shape[0])
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
                elif "layer.weight" in key:
                    parameter.zero_()
        results = {name: model(x) for name, model in models.items()}
    torch.testing.assert_close(results["lora by hand"], results[BASELINE], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(results["textbook"], results[OURS], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(results["geoopt"], results[OURS], rtol=1e-3, atol=1e-4)


def test_command(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    command = ["--rounds", "2", "--shape", "8,16,16,2", "--dtype", "float32", "--no-model", "--json"]
    assert adapters.main([*command, "--out", str(tmp_path / "cost.md")]) == 0
    costs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = {"training step", "forward", "decode", "saved for backward", "peak of a step"}
    assert {cost["what"] for cost in costs} == kinds
    assert len({cost["contestant"] for cost in costs}) == 6
    assert "## 8x16x16x2, float32" in (tmp_path / "cost.md").read_text()
