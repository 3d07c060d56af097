"""The paper's settings: every preset expands, its adapters go onto a tiny model of its family, one trains."""

import json
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.commands.train import TrainCommand
from manifold_lora.experiments.methods.config import peft_config
from manifold_lora.experiments.runs.cell import in_steps
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import load_settings
from manifold_lora.experiments.settings.run import TaskSettings, TrainSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.training.device import device_of
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt

PRESETS = sorted((Path(__file__).parents[3] / "experiments" / "configs" / "paper").glob("*.yaml"))
FAMILIES = {"llama_7b": "llama", "llama_13b": "llama", "llama3_8b": "llama", "gemma_7b": "gemma"}
GRID = {"arm": ["lora", "dora", "tangent", "direct"], "train.seed": [0, 1, 2]}
TARGETS = {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"}


def test_there_is_one_for_each_model_of_the_paper() -> None:
    assert {path.stem for path in PRESETS} == set(FAMILIES)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_the_papers_setting_for_train_and_ablate(path: Path) -> None:
    settings = load_settings(AblationSettings, path)
    assert load_settings(TrainCommand, path).arm == settings.arm == "direct"
    cells = expand(settings.model_copy(update={"grid": GRID}), {})
    assert len({cell.id for cell in cells}) == 12
    for cell in cells:
        run = cell.run
        assert (run.adapter.rank, set(run.adapter.target_modules)) == (32, TARGETS)
        assert (run.train.learning_rate, run.train.epochs, run.train.batch_size) == (3e-4, 3, 16)
        assert (run.task.name, run.task.template) == ("math10k", "alpaca")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_its_adapters_go_onto_a_tiny_model_of_the_family(path: Path) -> None:
    settings = load_settings(AblationSettings, path)
    for cell in expand(settings.model_copy(update={"grid": {"arm": GRID["arm"]}}), {}):
        model = adapt(
            tiny_model(20, family=FAMILIES[path.stem], layers=2), peft_config(cell.run.adapter, {}, None)
        )
        adapted = {
            name for name, module in model.named_modules() if "default" in getattr(module, "lora_A", {})
        }
        assert len(adapted) == 2 * len(TARGETS)
        assert {name.rpartition(".")[2] for name in adapted} == TARGETS
        shapes = {p.shape[0] for name, p in model.named_parameters() if "lora_A" in name}
        assert shapes == {32}


def test_a_preset_trains_as_it_is(tmp_path: Path) -> None:
    """With small data and a tiny model in place of the weights, nothing else changed but the output."""
    row = {"source": "s", "output": "so The answer is 7.", "answer": "7"}
    rows = [row | {"instruction": f"ask {place} ?"} for place in range(12)]
    offer = "Answer Choices: (A) 1 (B) 2 (C) 3 (D) 4 (E) 5"
    files = {"train/math10k_rebuild.jsonl": "".join(json.dumps(each) + "\n" for each in rows)}
    for name in ("mawps", "SVAMP", "gsm8k"):
        files[f"tests/{name}.json"] = json.dumps([{"id": name, "instruction": f"{name} ?", "answer": "7"}])
    files["tests/AQuA.json"] = json.dumps([{"id": "a", "instruction": f"which ? {offer}", "answer": "B"}])
    for name, text in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tokenizer = word_tokenizer(["ask so The answer is 7. (B). ?"])
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_model(len(tokenizer), hidden_size=32, layers=1, intermediate_size=32).save_pretrained(
        tmp_path / "model"
    )
    (preset,) = (path for path in PRESETS if path.stem == "llama3_8b")
    flags = ["--data", str(tmp_path / "data"), "--model", str(tmp_path / "model"), "--model.device", "cpu"]
    flags += ["--output", str(tmp_path / "out"), "--evaluation.max-new-tokens", "8"]
    assert main(["train", str(preset), *flags]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(result["train"]["losses"]) == 2  # three epochs of eleven rows in batches of sixteen
    assert set(result["evaluation"]) == {"validation", "mawps", "svamp", "gsm8k", "aqua"}
    assert all("disagreements" in entry for entry in result["evaluation"].values())
    assert all({"extracted", "second", "agree"} <= set(item) for item in result["items"])
    assert result["meta"]["notes"]["train rows in a test"] == 0


@pytest.mark.parametrize(("processes", "steps"), [(None, 1832), ("4", 458)])
def test_epochs_are_steps_of_the_batch_of_all_processes(
    processes: str | None, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AblationSettings(train=TrainSettings(epochs=3, batch_size=16))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("WORLD_SIZE", processes)
    assert in_steps(settings, 9770).train.steps == steps
    assert in_steps(AblationSettings(), 9770).train.steps == 200
    assert TaskSettings().completion_only


def test_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of("auto") == device_of("cuda") == "cuda:3"
    assert device_of("cpu") is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto") is None
    with pytest.raises(ManifoldLoraError, match="no GPU"):
        device_of("cuda")
