"""The cost benchmark: contestants checked, interleaved, memory counted right, sections replaced alone."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.bench import adapters, contestants, cost, machine, models
from manifold_lora.experiments.bench.contestants import (
    APART,
    DORA,
    EVERYONE,
    FROZEN,
    OURS,
    _ByHand,
    one_layer,
)
from manifold_lora.experiments.bench.cost import BASELINE, FORWARD, PEAK, SAVED, STEP, Cost
from manifold_lora.experiments.bench.groups import GroupContest
from manifold_lora.experiments.bench.layers import layer_contest
from manifold_lora.experiments.bench.machine import processor
from manifold_lora.experiments.bench.memory import peak_bytes, saved_bytes
from manifold_lora.experiments.bench.models import ModelContest
from manifold_lora.experiments.bench.page import ADAPTERS, GEOMETRY, GPU, LAYERS, MODELS, section_of
from manifold_lora.experiments.bench.rounds import Pace, compare
from manifold_lora.experiments.bench.tables import section
from manifold_lora.models.tiny import tiny_model

LAYER = ["--only", "layers", "--shape", "70,16,16,2", "--rounds", "2", "--dtype", "float32"]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run a measurement, however short."""
    monkeypatch.setattr(cost, "repeats_for", lambda act: 1)


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_contestant_computes_what_it_is_timed_for(dtype: str) -> None:
    """On a layer wide and long enough for every path: few tokens, many, a training step."""
    largest = layer_contest((70, 48, 32, 4), dtype).check()
    assert list(largest) == list(EVERYONE)
    assert max(largest.values()) < 0.2
    assert (largest[OURS] < 1e-5) == (dtype == "float32")


def test_layers_on_one_x_compute_what_they_are_timed_for() -> None:
    largest = GroupContest("3 x 8", "float32", 8, 32, 4).check()
    assert list(largest) == [BASELINE, DORA, OURS, APART, FROZEN]
    assert largest[OURS] < 1e-5


@pytest.mark.usefixtures("once")
def test_a_whole_model_computes_what_it_is_timed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_WRITTEN", 2)
    base = partial(tiny_model, 16, hidden_size=16, layers=1, heads=2, intermediate_size=32)
    contest = ModelContest("small", "float32", base, 2, 2, 8, 1.25)
    assert contest.check()[OURS] < 1e-4
    costs = list(contest.measured(Pace(2)))
    assert [c.asked for c in costs if c.contestant == OURS] == [1.25, 1.05, 1.15]
    assert all(c.asked is None for c in costs if c.contestant != OURS)


class _Wrong(_ByHand):
    """LoRA by hand with a wrong factor in what it returns, or in one gradient alone."""

    where = "output"

    def delta(self, x: Tensor) -> Tensor:
        update = super().delta(x)
        if self.where == "output":
            return 1.01 * update
        if self.where == "few tokens":
            return update if len(x) > 2 else 1.01 * update
        if self.where == "no gradient":
            return functional.linear(functional.linear(x, self.lora_A), self.lora_B.detach())
        by_A = functional.linear(functional.linear(x.detach(), self.lora_A), self.lora_B.detach())
        return update + 0.01 * (by_A - by_A.detach())


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("output", r"output of 1 tokens of .*: got 'a relative difference of \d"),
        ("few tokens", r"output of 1 tokens of .*: got 'a relative difference of \d"),
        ("gradient", r"gradient by lora_A of .*: got 'a relative difference of \d"),
        ("no gradient", "gradient by lora_B of .*: got 'none'"),
    ],
)
def test_a_wrong_contestant_ends_the_run_before_anything_is_timed(
    where: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(contestants.BY_HAND, "lora by hand", _Wrong)
    monkeypatch.setattr(_Wrong, "where", where)
    page = tmp_path / "cost.md"
    assert adapters.main([*LAYER, "--out", str(page)]) == 1
    output = capsys.readouterr()
    assert re.search(what.replace(".*", "lora by hand at 70x16x16x2, float32"), output.err)
    assert not output.out
    assert not page.exists()


def test_slow_rounds_end_with_their_seconds_but_for_three() -> None:
    def slow(act: Callable[[], object], repeats: int) -> float:
        act()
        return 1.0

    calls: list[None] = []
    ratio = compare({"a": lambda: calls.append(None)}, "a", Pace(30, seconds=2.0), measure=slow)["a"]
    assert (ratio.rounds, len(calls)) == (3, 4)
    assert compare({"a": lambda: None}, "a", Pace(7, seconds=math.inf), measure=slow)["a"].rounds == 7


@pytest.mark.usefixtures("once")
def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "cost.md"
    assert adapters.main([*LAYER, "--json", "--out", str(page)]) == 0
    costs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {c["rounds"] for c in costs} == {0, 2}
    decodes = {f"decode {tokens}" for tokens in (1, 2, 16, 64)}
    assert {c["what"] for c in costs} == {STEP, FORWARD, *decodes, SAVED, PEAK}
    assert {c["contestant"] for c in costs} == set(EVERYONE)
    text = page.read_text()
    assert "## One layer\n\nMade by `manifold-lora bench adapters --only layers" in text
    assert "### 70x16x16x2, float32" in text
    assert f"on {processor()}, instructions " in text
    assert "## On a GPU\n\nUnmeasured" in text


@pytest.mark.usefixtures("once")
def test_a_section_is_replaced_alone(tmp_path: Path) -> None:
    """What others wrote stays, and what nobody writes any more goes."""
    page = tmp_path / "cost.md"
    old = ["## 512x768, by an older version\n\nOld.", f"{MODELS}\n\nKept.\n\n### tiny\n\nKept too."]
    operations = f"{GEOMETRY}\n\nTheirs.\n"
    page.write_text("\n\n".join([f"{ADAPTERS}\n\nOld words.", *old, f"{LAYERS}\n\nOlder.", operations]))
    assert adapters.main([*LAYER, "--out", str(page)]) == 0
    text = page.read_text()
    assert "Old" not in text
    assert text.count(LAYERS) == 1
    assert section_of(text, MODELS) == old[1] + "\n"
    assert section_of(text, GEOMETRY) == operations
    order = [text.index(heading) for heading in (ADAPTERS, LAYERS, MODELS, GPU, GEOMETRY)]
    assert order == sorted(order)


def test_a_figure_beside_what_is_asked() -> None:
    costs = [
        Cost("512x1024", "float32", STEP, BASELINE, 1.0, 1.0, 1.0, 10.0, "ms", 12),
        Cost("512x1024", "float32", STEP, DORA, 1.3, 1.2, 1.4, 13.0, "ms", 12),
        Cost("512x1024", "float32", STEP, OURS, 1.021, 1.01, 1.03, 10.2, "ms", 12, 1.02),
        Cost("512x1024", "float32", SAVED, OURS, 1.1, 1.1, 1.1, 20.0, "B a token", 0, 100.0),
    ]
    text = section(LAYERS, "Made.", costs)
    assert f"| {STEP} | ours | 1.021 | 1.02 | **missed** in 1 of 1, most at 512x1024, float32 |" in text
    assert f"| {SAVED} | ours | 20 B a token | 100 | met |" in text
    assert f"| {STEP}, DoRA beaten | ours | 0.785 of DoRA | below 1 | met |" in text
    assert "1.021 [1.01, 1.03] (10.2 ms), 1.02 asked: missed | 20 B a token, 100 asked: met |" in text
    assert f"| contestant | {STEP} (12 rounds) | {SAVED} |" in text
    assert costs[2].met is False
    assert replace(costs[2], ratio=1.0204).met  # as it is printed


def test_smollm2_is_left_out_in_one_line_where_nobody_fetched_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for fetched in (True, False):
        monkeypatch.setattr(models, "has_smollm2", lambda fetched=fetched: fetched)
        monkeypatch.setattr(adapters, "has_smollm2", lambda fetched=fetched: fetched)
        names = [contest.where for contest in adapters.contests("models", ["float32"], (), quick=False)]
        assert any(models.SMOLLM2 in name for name in names) == fetched
        left_out = adapters._left_out("models", ["float32"])
        assert left_out == ([] if fetched else [adapters.NOT_FETCHED])
    monkeypatch.setattr(adapters, "has_bfloat16", lambda: False)
    wheres = [contest.where for contest in adapters.contests("layers", ["bfloat16"], (), quick=False)]
    assert wheres == ["512x768x768x8", "512x1024x1024x32"]
    quick = adapters.contests("models", ["float32"], (), quick=True)
    assert [contest.where.split(",")[0] for contest in quick] == [models.LLAMA, models.TINY]


@pytest.mark.parametrize("flags", [["--rounds", "1"], ["--shape", "8,16"], ["--only", "everything"]])
def test_what_it_cannot_measure_is_refused(flags: list[str]) -> None:
    with pytest.raises(ManifoldLoraError):
        adapters.main(flags)


def test_the_machine_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPUINFO", info)
    info.write_text("model name\t: Some CPU\nflags\t\t: fpu avx avx2 sse\n")
    assert machine.processor().startswith("Some CPU (")
    assert (machine.instructions(), machine.has_bfloat16()) == (["avx", "avx2"], False)
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC, commit .*, on Some CPU \(.*\), instructions avx avx2, no bfloat16 "
        r"instructions; torch .* with \d+ of \d+ cores, load [\d.]+$",
        machine.described(),
    )
    info.write_text("flags : avx512f avx512_bf16\n")
    assert machine.has_bfloat16()
    info.unlink()
    assert (machine.instructions(), machine.has_bfloat16()) == ([], True)
    assert "instructions unknown;" in machine.described()
