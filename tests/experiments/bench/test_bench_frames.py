"""The cost of frames: the whole bench on a tiny model, and what it is to keep on a real one."""

import pytest

from manifold_lora.experiments.bench.frames import HEAD, main, measure_frames
from manifold_lora.models.tiny import tiny_model, word_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tokenizer = word_tokenizer(["a b c d"])
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32).save_pretrained(
        folder
    )
    return str(folder)


def test_one_row_an_arm_and_the_baseline_is_one(base, capsys):
    sizes = ["--rank", "2", "--rows", "1", "--length", "4", "--rounds", "2"]
    assert main(["--model", base, "--arm", "stiefel", "--arm", "landing", *sizes]) == 0
    *head, lora, stiefel, landing = capsys.readouterr().out.splitlines()
    assert head == HEAD.splitlines()
    assert lora.startswith("| lora | 1.000 [1.000, 1.000] |")
    assert stiefel.startswith("| stiefel |")
    assert landing.startswith("| landing |")


def check(costs, drift, merge):
    lora, stiefel = costs
    assert (lora.arm, lora.drift, stiefel.arm) == ("lora", 0.0, "stiefel")
    assert 0 < stiefel.drift < drift
    assert 0 < stiefel.merge < merge


def test_frames_stay_and_merge(base):
    check(measure_frames(base, ["stiefel"], rank=4, rows=1, length=4, rounds=3), drift=1e-6, merge=1e-5)


@pytest.mark.slow
def test_frames_stay_and_merge_on_smollm2(smollm2):
    """Slow: two copies of 134 million parameters, eight steps."""
    check(measure_frames(smollm2, ["stiefel"], rank=16, rows=1, length=16, rounds=2), drift=1e-6, merge=1e-4)
