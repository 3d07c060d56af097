"""R16: spaces, quotes, shell characters and unicode in every path: config, data, model, output, cache."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.settings.parse import dump_yaml, load_settings
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.tasks.taxonomy import Taxonomy
from manifold_lora.experiments.training.pretrain import ensure_base
from manifold_lora.models.load import load_base
from manifold_lora.models.tiny import tiny_model, word_tokenizer

NAMES = (
    "two words",
    " spaces at both ends ",
    "größe_été",
    "数据 データ",
    "עברית",
    "🙂 emoji",
    'quote\'s "both"',
    "$HOME `x` ;& | < >",
    "[a-z]* {b} ?",
    "100%20 #1 = a+b, c\\d",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a data folder to be put under every name."""
    folder = tmp_path_factory.mktemp("tiny")
    rows = [{"question": f"{i} and 2 ?", "answer": f"so\n#### {i + 2}"} for i in range(8)]
    tests = [{"id": "ä 1", "instruction": "40 and 2 ?", "answer": "42"}]
    for name, text in {
        "train/gsm8k_train.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "tests/gsm8k.json": json.dumps(tests),
    }.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    tokenizer = word_tokenizer(f"Question: Answer: {i} and ? so The answer is {i + 2}." for i in range(41))
    tokenizer.save_pretrained(folder / "model")
    tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16).save_pretrained(
        folder / "model"
    )
    return folder


def place(name: str, tiny: Path, root: Path) -> list[str]:
    """Copy model and data under ``name`` and write a config there; returns the command to train with it."""
    home = root / name
    for part in ("data", "model"):
        target = home / f"{part} {name.strip()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(tiny / part)
    config = home / f"{name.strip()}.yaml"
    settings = {
        "arm": "direct",
        "task": {"name": "gsm8k", "data": str(home / f"data {name.strip()}")},
        "model": {"name": str(home / f"model {name.strip()}")},
        "adapter": {"rank": 1},
        "train": {"steps": 1, "batch_size": 2, "checkpoint_every": 1},
        "evaluation": {"max_new_tokens": 8},
    }
    config.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    output, cache = home / f"out {name.strip()}", home / f"cache {name.strip()}"
    return [str(config), "--output", str(output), "--cache", str(cache)]


def trained(home: Path) -> bool:
    """Whether adapter, settings and result are there and hold the paths as they were given."""
    (output,) = home.glob("out *")
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    run = load_settings(RunSettings, output / "run.yaml")
    return (
        [item["id"] for item in result["items"]][-1] == "ä 1"
        and (output / "adapter" / "adapter_model.safetensors").is_file()
        and run.task.data is not None
        and run.task.data.parent == home
        and Path(run.model.name).parent == home
    )


def test_train_and_evaluate_under_every_name(tiny: Path, tmp_path: Path, tally, capsys) -> None:
    """One step of training in folders of each name; two of the saved adapters evaluated."""
    passed = 0
    for name in NAMES:
        command = place(name, tiny, tmp_path)
        passed += main(["train", *command]) == 0 and trained(tmp_path / name)
        if name in NAMES[6:8]:
            assert main(["evaluate", command[2]]) == 0
    capsys.readouterr()
    tally("R16", "names of config, data, model and output: train", passed, len(NAMES))


def test_a_base_is_cached_under_every_name(tmp_path: Path, tally) -> None:
    """The embedded base, of one step, is written to a cache of each name, found there again and loaded."""

    class Short(Taxonomy):
        @property
        def base_spec(self):
            return dataclasses.replace(
                super().base_spec,
                steps=1,
                layers=1,
                hidden_size=16,
                heads=2,
                intermediate_size=16,
                batch_size=4,
            )

    task, passed = Short(limit=4), 0
    for name in NAMES:
        first = ensure_base(task, tmp_path / name / "cache", lambda step, loss: None)
        again = ensure_base(task, tmp_path / name / "cache", lambda step, loss: pytest.fail("trained twice"))
        model, _ = load_base(str(again))
        passed += first == again and first.is_relative_to(tmp_path / name) and model.num_parameters() > 0
    tally("R16", "names of the cache: written, found, loaded", passed, len(NAMES))


def test_settings_with_every_name_read_back(tmp_path: Path, tally) -> None:
    passed = 0
    for name in NAMES:
        path = tmp_path / f"{name}.yaml"
        settings = RunSettings(task={"data": tmp_path / name, "name": "gsm8k"}, model={"name": f"./{name}"})
        path.write_text(dump_yaml(settings), encoding="utf-8")
        passed += load_settings(RunSettings, path).model_dump_json() == settings.model_dump_json()
    tally("R16", "names in settings written and read back", passed, len(NAMES))


@pytest.mark.slow
def test_the_command_itself(tiny: Path, tmp_path: Path) -> None:
    """Through the installed script, its arguments given by a shell-free call, an ablation and its report."""
    name = NAMES[7]
    command = place(name, tiny, tmp_path)
    script = Path(sys.executable).with_name("manifold-lora")
    flags = ["--grid", "{arm: [lora, direct], train.seed: [0]}", "--jobs", "1"]
    done = subprocess.run([script, "ablate", *command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    report = subprocess.run([script, "report", command[2]], capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr[-1500:]
    assert "direct" in report.stdout


def test_data_of_every_name(tmp_path: Path) -> None:
    for name in NAMES:
        folder = tmp_path / name
        (folder / "train").mkdir(parents=True)
        with pytest.raises(ValueError, match="gsm8k") as caught:
            build_task("gsm8k", folder, style="text")
        assert str(folder) in str(caught.value)
