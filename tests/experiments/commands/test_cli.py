"""The command itself: version, shipped configs by name, plug-in options, and an install without the extra."""

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from manifold_lora.errors import UnknownNameError
from manifold_lora.experiments.cli import CORE, EXTRA, VERBS, main
from manifold_lora.experiments.commands.arguments import SHIPPED, config_file
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import load_settings
from manifold_lora.experiments.sweeps.cells import expand

ROOT = Path(__file__).parents[3]


def message(capsys, *arguments):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"manifold-lora {version('manifold-lora')}\n"


@pytest.mark.parametrize("name", ["taxonomy", "paper/llama3_8b"])
def test_a_shipped_config_is_found_by_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taxonomy").mkdir()  # A folder of results is no config.
    assert load_settings(AblationSettings, config_file(name)) == load_settings(
        AblationSettings, SHIPPED / f"{name}.yaml"
    )


def test_a_file_of_the_working_directory_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taxonomy").write_text("arm: lora")
    assert load_settings(AblationSettings, config_file("taxonomy")).arm == "lora"


def test_an_unknown_config_lists_the_shipped_ones(capsys):
    line = message(capsys, "ablate", "taxonmy")
    assert "did you mean 'taxonomy'?" in line
    assert "paper/llama3_8b" in line
    assert "a readable UTF-8 YAML file" in message(capsys, "ablate", "taxonomy.yml")
    with pytest.raises(UnknownNameError):
        config_file("../configs/taxonomy")


@pytest.mark.parametrize("verb", ["check lorentz", "fetch", "bench numerics", "bench gpu", "bench adapters"])
def test_a_flag_that_a_small_verb_has_not_is_one_line(capsys, verb):
    assert "unrecognized arguments: --nope" in message(capsys, *verb.split(), "--nope")


def test_hyplora_is_the_paper_s_arm():
    hyplora, direct = (expand(AblationSettings(arm=arm), {})[0].run.adapter for arm in ("hyplora", "direct"))
    assert hyplora == direct
    assert (hyplora.manifold, hyplora.transform, hyplora.norm_scaling) == ("lorentz", "direct", "learned")


@pytest.mark.parametrize("option", [["--plugins", "mine"], ["--plugins=mine"]])
def test_a_module_given_as_an_installed_plugin_is_shown_the_option(capsys, option):
    assert "--plugin MODULE" in message(capsys, "ablate", *option)


@pytest.mark.parametrize(
    "option", [["--plugin", "no_such_module"], ["--plugin=no_such_module"], ["--plugin"]]
)
def test_a_module_that_is_not_there_is_reported(capsys, option):
    assert f"plugin: got {option[0].partition('=')[2] or ''.join(option[1:])!r}" in message(
        capsys, "ablate", *option
    )


# Modules of the extra that neither torch nor transformers bring: hidden here as if they were not installed.
HIDDEN = ("math_verify", "matplotlib", "powerlaw", "pydantic", "tyro")
CORE_ONLY = f"""
import builtins
from importlib.machinery import PathFinder

find, load = PathFinder.find_spec, builtins.__import__
def hidden(name, *rest):
    return None if name.partition(".")[0] in {HIDDEN} else find(name, *rest)
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {{}}).get("__name__", "")
    if name.partition(".")[0] in {EXTRA} and importer.startswith("manifold_lora"):
        raise ModuleNotFoundError(f"{{importer}} imports {{name}}", name=name)
    return load(name, globals, locals, fromlist, level)
PathFinder.find_spec, builtins.__import__ = staticmethod(hidden), guarded
"""
USE = """
import torch
import manifold_lora
from manifold_lora import ManifoldLoRA, ManifoldLoraConfig, adapt, build_manifold, load_adapter, save_adapter
from manifold_lora.manifolds.testing import check_manifold
from manifold_lora.models.tiny import tiny_model, word_tokenizer
for name in manifold_lora.__all__:
    getattr(manifold_lora, name)
assert not ManifoldLoRA(8, 4, rank=2, manifold="sphere").delta(torch.ones(8)).any()
assert all(found.passed for found in check_manifold(build_manifold("lorentz"), examples=1, only=["riesz"]))
tiny_model(9, hidden_size=16, layers=1, heads=2, intermediate_size=32).save_pretrained("base")
word_tokenizer(["a b c d"]).save_pretrained("base")
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("base")
model = adapt(base, ManifoldLoraConfig(r=2, target_modules=["q_proj"], manifold="lorentz"))
tokens = torch.arange(4)[None]
model(input_ids=tokens, labels=tokens).loss.backward()
load_adapter(save_adapter(model, "adapter"))
"""


def run_without_the_extra(folder, code):
    command = [sys.executable, "-W", "ignore", "-c", CORE_ONLY + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_layer_peft_geometry_and_contract_work_without_the_extra(tmp_path):
    done = run_without_the_extra(tmp_path, USE)
    assert done.returncode == 0, done.stderr


COMMANDS = """
from manifold_lora.experiments.cli import CORE, VERBS, main
assert main(["check", "lorentz", "--examples", "1", "--only", "riesz"]) == 0
assert main(["new", "geometry", "mine"]) == main(["fetch"]) == 0
for verb in VERBS.keys() - set(CORE):
    assert main([verb, "--help"]) == 2, verb
"""


def test_a_verb_that_lacks_the_extra_says_which_packages(tmp_path):
    done = run_without_the_extra(tmp_path, COMMANDS)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(VERBS) - len(CORE)
    for line in lines:
        verb = line.split()[1].rstrip(":")
        assert line == (
            f"manifold-lora {verb}: packages that {verb} needs: got 'no math_verify, matplotlib, powerlaw, "
            "pydantic, tyro'; pip install 'manifold-lora[experiments]'"
        )


def test_a_task_without_the_extra_is_reported_so_too(tmp_path):
    code = "from manifold_lora.experiments.cli import main\nassert main(['new', 'task', 'ours']) == 2"
    done = run_without_the_extra(tmp_path, code)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("manifold-lora new: packages that new needs: got 'no pydantic'; pip install")
    assert not [*tmp_path.iterdir()]


def test_the_extra_names_what_its_modules_come_from():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {Requirement(line).name.replace("-", "_") for line in declared["experiments"]}
    assert {"yaml" if name == "pyyaml" else name for name in names} == set(EXTRA)
