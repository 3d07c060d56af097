"""`manifold-lora ability`: a base and its adapter on the same prompts, and a base along its pre-training."""

import csv
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.tasks.taxonomy import Taxonomy
from manifold_lora.experiments.training.pretrain import ensure_base, pretrain_in_steps


class Sapling(Taxonomy):
    """A taxonomy whose base is pre-trained in a second."""

    @property
    def base_spec(self):
        return replace(super().base_spec, hidden_size=16, layers=1, intermediate_size=16, steps=8)


@pytest.fixture
def runs(base, tmp_path):
    """A base as it is, and two steps of an adapter on it, both asked twelve items of each set."""
    shared = ["--model", base, "--task.style", "equation", "--task.limit", "24"]
    shared += ["--evaluation.limit", "12", "--evaluation.max-new-tokens", "2", "--cache", str(tmp_path)]
    train = ["--arm", "direct", "--adapter.rank", "2", "--train.steps", "2", "--train.batch-size", "8"]
    assert main(["evaluate", *shared, "--output", str(tmp_path / "before")]) == 0
    assert main(["train", *shared, *train, "--output", str(tmp_path / "after")]) == 0
    return [str(tmp_path / name) for name in ("before", "after")]


def read(folder, name):
    """The lines of a table."""
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_base_and_its_adapter_are_compared_prompt_by_prompt(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["ability", "--runs", *runs, "--resamples", "40", "--output", str(out)]) == 0
    assert "after, layer 2: delta " in capsys.readouterr().out
    prompts, means = read(out, "prompts"), read(out, "deltas")
    assert len(prompts) == 2 * 3 * 24
    # "lca a b =>" and the start, without its first token.
    assert {row["tokens"] for row in prompts} == {"4"}
    excess = {
        (row["run"], row["layer"], row["set"], row["id"]): float(row["delta"]) - float(row["gaussian"])
        for row in prompts
    }
    moved = {
        layer: [
            value - excess["before", *key[1:]] for key, value in excess.items() if key[:2] == ("after", layer)
        ]
        for layer in ("layer 0", "layer 1", "layer 2")
    }
    for row in means:
        layer = row["layer"]
        if row["run"] == "before":
            assert row["change"] == ""
        else:
            assert float(row["change"]) == pytest.approx(sum(moved[layer]) / 24, abs=1e-12)
            assert float(row["change_low"]) <= float(row["change"]) <= float(row["change_high"])
    assert moved["layer 0"] == [0.0] * 24
    assert max(map(abs, moved["layer 2"])) > 0
    lines = read(out, "correlations")
    assert {line["figure"] for line in lines if line["run"] == "before"} == {"delta", "excess"}
    changes = [line for line in lines if line["figure"] == "change of excess"]
    assert [(line["run"], line["layer"]) for line in changes] == [("after", "layer 1"), ("after", "layer 2")]
    for line in lines:
        assert line["held"] == "" or float(line["held_p"]) <= float(line["adjusted"]) <= 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--runs FOLDER"),
        (["--runs", "nowhere"], "evaluation.json or result.json"),
        (["--runs", "a/run", "b/run"], "different names"),
        (["--runs", "a", "--layers", "first"], "a list of whole numbers"),
        (["--pretraining", "taxonomy", "--steps", "auto"], "a list of whole numbers"),
        (["--pretraining", "taxonmy"], "did you mean 'taxonomy'"),
        (["--pretraining", "taxonomy", "--steps", "[0, 9999]"], "0 to 300"),
    ],
)
def test_a_bad_request_is_one_line(flags, words, capsys, tmp_path):
    assert main(["ability", *flags, "--output", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_answers_without_nats_and_unfinished_runs_are_refused(tmp_path, capsys):
    for content, words in (("{", "evaluation.nll"), ('{"items": []}', "did not end")):
        (tmp_path / "result.json").write_text(content)
        assert main(["ability", "--runs", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err


def test_a_pre_training_is_kept_where_it_passes_by(tmp_path):
    kept = pretrain_in_steps(Sapling(), tmp_path / "kept", [0, 4])
    assert list(kept) == [0, 4, 8]
    weights = {step: AutoModelForCausalLM.from_pretrained(path).state_dict() for step, path in kept.items()}
    end = AutoModelForCausalLM.from_pretrained(ensure_base(Sapling(), tmp_path / "base")).state_dict()
    for name, value in end.items():
        assert torch.equal(weights[8][name], value)
    moved = [
        sum(float((weights[b][name] - weights[a][name]).norm()) for name in end) for a, b in ((0, 4), (4, 8))
    ]
    assert min(moved) > 0.1
    with pytest.raises(ManifoldLoraError, match="0 to 8"):
        pretrain_in_steps(Sapling(), tmp_path, [9])


def test_the_verb_asks_each_step_of_a_pre_training(tmp_path, monkeypatch, capsys):
    recipe = Taxonomy.base_spec.fget
    small = {"hidden_size": 16, "layers": 1, "intermediate_size": 16, "steps": 4}
    monkeypatch.setattr(Taxonomy, "base_spec", property(lambda self: replace(recipe(self), **small)))
    flags = ["--steps", "[0, 2]", "--prompts", "10", "--resamples", "40", "--output", str(tmp_path)]
    assert main(["ability", "--pretraining", "taxonomy", *flags]) == 0
    deltas = {
        run: [
            row["delta"]
            for row in read(tmp_path, "prompts")
            if (row["run"], row["layer"]) == (run, "layer 1")
        ]
        for run in ("step-0", "step-2", "step-4")
    }
    assert [len(found) for found in deltas.values()] == [20, 20, 20]
    assert len(set(map(tuple, deltas.values()))) == 3
