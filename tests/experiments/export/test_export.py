"""``manifold-lora export``: from a run's folder to a LoRA, with the figures that belong to it."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.models.load import load_adapter
from manifold_lora.models.tuner.apply import adapt

FLAGS = ["--task.style", "equation", "--task.limit", "24", "--adapter.rank", "2", "--train.steps", "12"]
FLAGS += ["--train.learning-rate", "3e-2", "--train.batch-size", "8", "--evaluation.max-new-tokens", "2"]


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """``run("direct")``: the folder of a trained arm, made once."""
    folders = {}

    def make(arm):
        if arm not in folders:
            folder = tmp_path_factory.mktemp(arm)
            assert main(["train", "--arm", arm, "--model", base, *FLAGS, "--output", str(folder)]) == 0
            folders[arm] = folder
        return folders[arm]

    return make


def test_a_linear_arm_is_exported_without_an_error(run, base, capsys, tmp_path):
    assert main(["export", str(run("tangent")), "--to", "lora", "--output", str(tmp_path / "lora")]) == 0
    wording = capsys.readouterr().out
    assert "exact" in wording
    report = json.loads((tmp_path / "lora" / "export.json").read_text())
    assert report["logits_error"] < 1e-5
    assert report["same_next_token"] == 1.0
    for scores in report["accuracy"].values():
        assert scores["adapter"] == scores["lora"]
    ids = torch.arange(4, 20)[None]
    ours = AutoModelForCausalLM.from_pretrained(base)
    expected = load_adapter(run("tangent") / "adapter", ours).eval()(ids).logits
    exported = load_adapter(tmp_path / "lora", AutoModelForCausalLM.from_pretrained(base))
    assert isinstance(exported.peft_config["default"], LoraConfig)
    assert exported.peft_config["default"].peft_type == "LORA"
    torch.testing.assert_close(exported.eval()(ids).logits, expected, rtol=1e-6, atol=1e-6)


def test_a_curved_arm_is_exported_with_its_errors_and_its_card(run, capsys, tmp_path):
    folder = run("direct")
    before = {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()}
    assert main(["export", str(folder)]) == 0
    wording = capsys.readouterr().out
    report = json.loads((folder / "lora" / "export.json").read_text())
    assert len(report["layers"]) == 14
    assert set(report["accuracy"]) == {"validation", "taxonomy"}
    for layer in report["layers"].values():
        assert layer["error"] == layer["errors"][layer["kind"]] <= layer["errors"]["gain"]
        assert 0 < layer["error"] < 0.5
        assert layer["gain"] > 1.0  # hyperbolic space lengthens updates
    worst = max(layer["error"] for layer in report["layers"].values())
    for text in (wording, (folder / "lora" / "README.md").read_text()):
        assert f"{worst:.2e}" in text
        assert f"{report['logits_error']:.2e}" in text
    assert "lorentz" in (folder / "lora" / "README.md").read_text()
    gains = json.loads((folder / "result.json").read_text())["geometry"]["gain"]
    card = (folder / "adapter" / "README.md").read_text()
    assert all(f"| {gain:.4g} |" in card for gain in gains.values())
    assert {path.name: path.read_bytes() for path in (folder / "adapter").iterdir()} == before
    assert main(["export", str(folder)]) == 0  # over its own earlier export


def test_text_of_ones_own_and_an_adapter_without_a_run(run, capsys, tmp_path):
    folder, text = run("direct"), tmp_path / "calibration.txt"
    text.write_text("".join(f"{item.prompt} {item.target}\n" for item in build_task("taxonomy").train[:40]))
    command = ["export", str(folder / "adapter"), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--text" in capsys.readouterr().err
    assert main([*command, "--text", str(text)]) == 0
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["accuracy"] == {}
    assert report["text"] == "20 lines of calibration.txt, and 20 others"


def test_bad_input_is_one_line_and_nothing_is_written(run, base, capsys, tmp_path):
    folder = str(run("direct"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    (tmp_path / "one.txt").write_text("a single line\n")
    plain = adapt(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj"]))
    plain.save_pretrained(tmp_path / "plain")
    new = str(tmp_path / "new")
    cases = [
        ([], "output folder of manifold-lora train"),
        ([str(tmp_path / "nowhere")], "adapter folder"),
        ([folder, "--output", str(tmp_path / "taken")], "no export wrote"),
        ([folder, "--output", str(run("direct") / "adapter")], "other than the adapter's own"),
        ([folder, "--text", str(tmp_path / "one.txt"), "--output", new], "at least two lines"),
        ([folder, "--text", str(tmp_path / "none.txt"), "--output", new], "UTF-8 file"),
    ]
    for arguments, wording in cases:
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert wording in error, error
        # Beside the bar that transformers draws while it loads weights.
        lines = [line for line in error.splitlines() if line and "Loading" not in line]
        assert [line[:20] for line in lines] == ["manifold-lora export"]
    with pytest.warns(UserWarning, match="has no manifold_lora.json"):
        assert main(["export", str(tmp_path / "plain"), "--output", new]) == 2
    assert "adapter to export" in capsys.readouterr().err
    assert (tmp_path / "taken" / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "new").exists()


def test_a_switch_misspelt_is_reported_before_torch_is_loaded(tmp_path):
    code = (
        "import sys; from manifold_lora.experiments.cli import main\n"
        "print(main(['export', 'x', '--too', 'lora']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("2 False")


def test_an_unknown_folder_names_neighbours_that_are_adapters(run, tmp_path, capsys):
    """A folder of data beside it is no answer; a hub name that is not there is another message."""
    (tmp_path / "adapter-data").mkdir()
    (tmp_path / "adapter-one").mkdir()
    (tmp_path / "adapter-one" / "adapter_config.json").write_text("{}")
    assert main(["export", str(tmp_path / "adapter-two")]) == 2
    wording = capsys.readouterr().err
    assert "adapter-one" in wording
    assert "adapter-data" not in wording
    assert main(["export", str(tmp_path / "adapter-data")]) == 2
    assert "a folder with adapter_config.json" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


def test_export_says_what_it_does(run, tmp_path, capsys):
    assert main(["export", str(run("tangent")), "--output", str(tmp_path / "lora")]) == 0
    wording = capsys.readouterr().out
    for work in (
        "running the adapter on text to fit to: 2 of 2",
        "fitting layers: 14 of 14",
        "comparing logits:",
    ):
        assert work in wording
