"""Every baseline through the command line: three steps of taxonomy, saved, loaded, the same answers."""

import json

import pytest
import torch
from peft import AdaLoraModel, PeftModel
from rich.console import Console

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.commands.train import main as train
from manifold_lora.experiments.methods.config import check_adapter, peft_config
from manifold_lora.experiments.runs.cell import load_adapted
from manifold_lora.experiments.runs.folder import SETTINGS
from manifold_lora.experiments.runs.single import evaluate
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.arms import ARMS
from manifold_lora.experiments.settings.parse import load_settings, validate
from manifold_lora.experiments.settings.run import AdapterSettings, RunSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.experiments.training.options import FitOptions
from manifold_lora.experiments.training.train import fit

# peft says that a bias cannot be merged into a layer without one, and takes a bias for a lost shard.
BIASED = pytest.param(
    "lora-bias",
    marks=[
        pytest.mark.filterwarnings("ignore:.lora_bias=True"),
        pytest.mark.filterwarnings("ignore:Adapter 'default'. .* LoRA tensor.s. have invalid shape"),
    ],
)
BASELINES = ["series", "parallel", "prefix", "adalora", "lora-plus"]
OURS = ["direct-token", "direct-learned", "direct-shared", "shuffled-norms", "direct-dose-0.03"]
OURS += ["norm-blind", "power-learned"]


def run_of(base, arm, **train):
    data = {
        "arm": arm,
        "task": {"name": "taxonomy", "style": "equation", "limit": 24},
        "model": {"name": base},
        "adapter": {"rank": 2},
        "train": {"steps": 3, "batch_size": 8, **train},
    }
    (cell,) = expand(validate(AblationSettings, data, "test"), {})
    return cell.run


def test_a_norm_scale_can_be_one_of_all_layers(base, tmp_path):
    flags = ["--arm", "direct", "--model", base, "--task.style", "equation", "--task.limit", "24"]
    flags += ["--adapter.norm-scaling", "{mode: learned, shared: true}", "--train.learning-rate", "1e-2"]
    flags += ["--train.steps", "3", "--train.batch-size", "8", "--evaluation.max-new-tokens", "2"]
    train([*flags, "--output", str(tmp_path)])
    geometry = json.loads((tmp_path / "result.json").read_text())["geometry"]
    # s = s0 exp(log) from the median norm s0 of each module: one factor in all of them, which has moved.
    starts = geometry["preflight"]["modules"]
    factors = {
        round(s / starts[name.split(".default")[0]]["norm"]["median"], 5) for name, s in geometry["s"].items()
    }
    assert len(geometry["s"]) == 14
    assert len(factors) == 1
    assert factors != {1.0}


@pytest.mark.parametrize("arm", [*BASELINES, BIASED, *OURS])
def test_an_arm_trains_is_saved_and_answers_the_same_when_loaded(base, tmp_path, arm):
    flags = ["--arm", arm, "--model", base, "--task.style", "equation", "--task.limit", "24"]
    flags += ["--adapter.rank", "2", "--train.steps", "3", "--train.batch-size", "8"]
    flags += ["--evaluation.batch-size", "24", "--evaluation.max-new-tokens", "2"]
    assert train([*flags, "--output", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["train"]["losses"]) == 3
    assert result["cost"]["trainable_parameters"] > 0
    assert result["cost"]["clock"] == "cpu"
    assert bool(result["geometry"]["kappa"]) == (arm in OURS)
    assert bool(result["geometry"]["gate"]) == (arm == "direct-token")
    run = load_settings(RunSettings, tmp_path / SETTINGS)
    assert evaluate(run, tmp_path, Console(quiet=True)) == 0
    again = json.loads((tmp_path / "evaluation.json").read_text())
    assert [item["output"] for item in again["items"]] == [item["output"] for item in result["items"]]


@pytest.mark.parametrize("arm", ["series", "parallel", "adalora", "lora-plus", BIASED, *OURS])
def test_an_arm_starts_as_the_base(base, arm):
    task = build_task("taxonomy", style="equation", limit=4)
    model, tokenizer, *_ = load_adapted(run_of(base, arm), base, task.train, {})
    ids = torch.tensor([tokenizer(task.train[0].prompt)["input_ids"]])
    with model.eval().disable_adapter():
        expected = model(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-6)


def test_adalora_ends_at_its_target_rank(base):
    run = run_of(base, "adalora", steps=12, learning_rate=1e-2)
    task = build_task("taxonomy", style="equation", limit=24)
    model, tokenizer, rows, _ = load_adapted(run, base, task.train, {})
    assert isinstance(model.base_model, AdaLoraModel)
    fit(model, tokenizer, rows.encoded, run.train)
    pattern = model.peft_config["default"].rank_pattern
    assert sum(map(sum, pattern.values())) == 2 * len(pattern)  # from 3 at the start
    silent = [
        module.lora_E["default"][~torch.tensor(pattern[name.removeprefix("base_model.") + ".lora_E"])]
        for name, module in model.named_modules()
        if hasattr(module, "lora_E") and name.removeprefix("base_model.") + ".lora_E" in pattern
    ]
    assert all((values == 0).all() for values in silent)


def test_adalora_does_not_write_checkpoints_it_could_not_go_on_from(base, tmp_path):
    run = run_of(base, "adalora", checkpoint_every=1)
    task = build_task("taxonomy", style="equation", limit=24)
    model, tokenizer, rows, _ = load_adapted(run, base, task.train, {})
    with pytest.raises(ManifoldLoraError, match=r"checkpoint_every.*adalora"):
        fit(model, tokenizer, rows.encoded, run.train)


def test_lora_plus_moves_b_faster(base):
    """One step of Adam moves a parameter by its learning rate, whatever the size of the gradient."""
    run = run_of(base, "lora-plus", steps=1, learning_rate=1e-3, warmup_ratio=0.0)
    task = build_task("taxonomy", style="equation", limit=24)
    model, tokenizer, rows, _ = load_adapted(run, base, task.train, {})
    options = FitOptions(lora_plus_ratio=run.adapter.lora_plus_ratio)
    fit(model, tokenizer, rows.encoded, run.train, options)
    moved = [p.abs().max().item() for name, p in model.named_parameters() if ".lora_B." in name]
    assert moved == pytest.approx([16e-3] * len(moved), rel=1e-2)


def test_a_prefix_is_what_generation_sees(base):
    task = build_task("taxonomy", style="equation", limit=4)
    model, tokenizer, *_ = load_adapted(run_of(base, "prefix"), base, task.train, {})
    assert isinstance(model, PeftModel)
    ids = torch.tensor([tokenizer(example.prompt)["input_ids"] for example in task.train[:2]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.eval()
    with model.disable_adapter():
        plain = model(**inputs).logits
    assert not torch.allclose(model(**inputs).logits, plain)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    step = ids
    for _ in range(3):  # the oracle: one token at a time, without a cache
        logits = model(input_ids=step, attention_mask=torch.ones_like(step)).logits[:, -1]
        step = torch.cat([step, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(model.generate(**inputs, **options), step)


def test_a_map_of_geometries_reaches_the_model(base):
    data = {"manifold_pattern": {r".*layers\.0\..*": "sphere", ".*": "euclidean"}}
    settings = AdapterSettings(method="manifold_lora", **data)
    check_adapter(settings)
    config = peft_config(settings, {})
    assert config.layer_spec("model.layers.0.mlp.up_proj").manifold.name == "sphere"
    assert config.layer_spec("model.layers.1.mlp.up_proj").manifold.name == "euclidean"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"manifold_pattern": {".*": "lorenz"}}, UnknownNameError, "did you mean 'lorentz'"),
        ({"manifold_pattern": {"(": "lorentz"}}, ManifoldLoraError, "regular expression"),
        ({"manifold_pattern": {"q": "sphere"}, "curvature": {"mode": "data"}}, ManifoldLoraError, "own curv"),
        ({"curvature": {"mode": "token", "kappa": 2.0}}, ManifoldLoraError, "negative"),
        ({"token_norms": "shuffle"}, UnknownNameError, "did you mean 'shuffled'"),
    ],
    ids=str,
)
def test_bad_adapter_blocks_are_refused_before_torch(fields, error, message):
    with pytest.raises(error, match=message):
        check_adapter(AdapterSettings(**fields))


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_of_the_list_is_a_config(arm):
    settings = AdapterSettings(**ARMS[arm])
    check_adapter(settings)
    assert peft_config(settings, {}, steps=100).task_type == "CAUSAL_LM"
