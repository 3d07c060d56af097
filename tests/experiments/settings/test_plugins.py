"""A geometry from outside: named on the command line it serves every cell; a config file imports nothing."""

import json
import subprocess
import sys

import pytest

from manifold_lora.errors import UnknownNameError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.tasks import build_task
from manifold_lora.models.tiny import tiny_model, word_tokenizer

PLUGIN = """
from manifold_lora.manifolds import MANIFOLDS, Lorentz

@MANIFOLDS.register("hyperbolic-of-mine", kappa_sign=-1, extra_dims=1)
class Mine(Lorentz):
    pass
"""
ADAPTER = "{method: manifold_lora, manifold: {name: hyperbolic-of-mine, curvature: -0.5}}"


@pytest.fixture
def ablate(tmp_path):
    """Run `manifold-lora ablate` on an untrained Llama in a folder that holds the plugin's module."""
    (tmp_path / "geometry_of_mine.py").write_text(PLUGIN)
    examples = build_task("taxonomy").train
    tokenizer = word_tokenizer(f"{example.prompt} {example.target}" for example in examples)
    tokenizer.save_pretrained(tmp_path / "base")
    tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32).save_pretrained(
        tmp_path / "base"
    )

    def run(*flags):
        command = [sys.executable, "-m", "manifold_lora.experiments.cli", *flags, "ablate", "--model", "base"]
        command += ["--task.style", "equation", "--task.limit", "8", "--train.steps", "2", "--output", "out"]
        command += ["--arms", f"{{mine: {ADAPTER}}}", "--grid", "{arm: [lora, mine]}", "--adapter.rank", "2"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run, tmp_path / "out"


@pytest.mark.slow
def test_a_module_named_on_the_command_line_serves_every_cell(ablate):
    run, out = ablate
    done = run("--plugin", "geometry_of_mine")
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (out / "results").glob("*.json")]
    kappas = [set(record["geometry"]["kappa"].values()) for record in records]
    assert sorted(kappas, key=len) == [set(), {-0.5}]


def test_without_it_the_name_is_unknown_and_nothing_is_written(ablate):
    run, out = ablate
    done = run()
    assert done.returncode == 2
    assert "hyperbolic-of-mine" in done.stderr
    assert not out.exists()


def test_a_module_that_is_not_there_is_reported(ablate):
    run, _ = ablate
    done = run("--plugin", "geometry_of_yours")
    assert done.returncode == 2
    assert "geometry_of_yours" in done.stderr


def test_a_config_file_cannot_name_a_module():
    with pytest.raises(UnknownNameError, match="named on the command line"):
        expand(AblationSettings(plugins=("os",)), {})
