"""The geometry of manifolds/README.md as its reader would ship it: built, pip-installed, used by name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lora.models.tiny import tiny_model, word_tokenizer

ROOT = Path(__file__).parents[1]
README = (ROOT / "manifolds" / "README.md").read_text(encoding="utf-8")
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "gans-plugin"
version = "1.0"

[tool.setuptools]
py-modules = ["gans_plugin"]

"""


@pytest.fixture(scope="module")
def install(tmp_path_factory):
    """Run Python where the plug-in is installed from its wheel, in the folder ``place`` with a tiny model."""
    project = tmp_path_factory.mktemp("project")
    (module,) = re.findall(r"```python\n(# fmt: off\n.*?)```", README, re.DOTALL)
    ((group, line),) = re.findall(r'# (\[project\.entry-points\.".*?"\]) (gans = ".*?")', README)
    (project / "gans_plugin.py").write_text(module)
    (project / "pyproject.toml").write_text(f"{PYPROJECT}{group}\n{line}\n")
    site = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True)
    place = tmp_path_factory.mktemp("elsewhere")
    tokenizer = word_tokenizer([f"lca w{number} => ." for number in range(60)])
    tokenizer.save_pretrained(place / "base")
    size = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32}
    tiny_model(len(tokenizer), **size).save_pretrained(place / "base")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def run(*arguments):
        command = [sys.executable, "-W", "ignore", *arguments]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    run.place = place
    return run


# What is imported first decides who registers the name; a fork is a process that has torch already.
ORDERS = """
import os, sys, torch
from manifold_lora.errors import CurvatureError
from manifold_lora.experiments.cli import main
from manifold_lora.manifolds import MANIFOLDS, ManifoldSpec, build_manifold, load_plugins
import manifold_lora.manifolds.testing

def check(target):
    assert main(["check", target, "--examples", "1", "--only", "law_of_cosines", "riesz"]) == 0

def use():
    gans = build_manifold({"name": "gans", "curvature": -0.5})
    import gans_plugin
    assert type(gans) is gans_plugin.Gans is MANIFOLDS["gans"]
    assert MANIFOLDS.metadata("gans") == {"kappa_sign": -1, "extra_dims": 0}
    x, y = gans.random(4, 3), gans.random(4, 3)
    torch.testing.assert_close(gans.expmap(x, gans.logmap(x, y)), y, rtol=1e-4, atol=1e-5)
    try:
        ManifoldSpec.parse({"name": "gans", "curvature": 0.5})
    except CurvatureError as error:
        assert "a negative number" in str(error)
    else:
        raise AssertionError("a positive curvature of gans was taken")

orders = {
    "import": lambda: __import__("gans_plugin"),
    "entry point": lambda: load_plugins(["gans"]),
    "module": lambda: load_plugins(["gans_plugin"]),
    "registry": lambda: MANIFOLDS["gans"],
    "by name": lambda: None,
    "check of the name": lambda: check("gans"),
    "check of the class": lambda: check("gans_plugin:Gans"),
}
for name, first in orders.items():
    if not (child := os.fork()):
        first()
        use()
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.slow
def test_by_import_in_any_order(install):
    install("-c", ORDERS)


def test_in_peft_it_trains_saves_and_loads(install):
    install(
        "-c",
        """
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM
from manifold_lora import ManifoldLoraConfig
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.save import save_adapter

base = AutoModelForCausalLM.from_pretrained("base")
config = ManifoldLoraConfig(r=2, target_modules=["q_proj"], manifold="gans", curvature=-0.5)
model = get_peft_model(base, config)
tokens = torch.arange(8)[None]
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
for _ in range(2):
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
save_adapter(model, "gans_adapter")
model.eval()
ours, loaded = (each.eval()(input_ids=tokens).logits for each in (model, load_adapter("gans_adapter")))
torch.testing.assert_close(loaded, ours)
with model.disable_adapter():
    assert not torch.equal(model(input_ids=tokens).logits, ours)
""",
    )


@pytest.mark.slow
def test_from_a_yaml_that_names_it(install):
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (install.place / "gans.yaml").write_text(block)
    flags = ["--model", "base", "--task.style", "equation", "--task.limit", "8", "--train.steps", "2"]
    flags += ["--preflight", "warn"]  # The base cannot spell the answers.
    flags += ["--grid", "{adapter.rank: [2]}", "--baseline", "custom"]
    install("-m", "manifold_lora.experiments.cli", "ablate", "gans.yaml", *flags)
    (result,) = (install.place / "runs" / "ablation" / "results").glob("*.json")
    record = json.loads(result.read_text())
    assert record["status"] == "ok"
    assert set(record["geometry"]["kappa"].values()) == {-0.5}
