"""`manifold-lora new`: the examples it writes pass their own tests, under whichever name."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.commands.check import check_class
from manifold_lora.experiments.tasks.registry import TASKS, build_task
from manifold_lora.manifolds import MANIFOLDS, build_manifold

README = Path(__file__).parents[3] / "manifolds" / "README.md"


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Run `manifold-lora new` in an empty folder and import what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (MANIFOLDS, TASKS):
        for held in ("_parts", "_metadata"):
            monkeypatch.setattr(registry, held, dict(getattr(registry, held)))

    written = []

    def write(kind, name, module):
        assert main(["new", kind, name]) == 0
        assert len((tmp_path / f"{module}.py").read_text().splitlines()) < 50
        written.append(module)
        return importlib.import_module(module)

    yield write
    for module in written:
        del sys.modules[module]


def test_a_new_geometry_is_there_by_name_and_keeps_the_contract(new):
    module = new("geometry", "my-space", "my_space")
    assert type(build_manifold({"name": "my-space", "curvature": -2.0})) is module.MySpace
    assert check_class("my_space:MySpace", examples=1, only=["law_of_cosines", "riesz"]) == 0
    assert callable(module.test_my_space)


def test_the_geometry_is_the_listing_of_the_readme(new):
    (listing,) = re.findall(r"```python\n(# fmt: off\n.*?)```", README.read_text(), re.DOTALL)
    module = new("geometry", "gans", "gans")
    assert Path(module.__file__).read_text() == listing


def test_a_new_task_passes_its_tests_and_is_built_by_name(new):
    module = new("task", "my-words", "my_words")
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    assert type(build_task("my-words", limit=5)) is module.MyWords
    assert len(build_task("my-words", limit=5).train) == 5


@pytest.mark.slow
def test_a_new_task_is_learned_by_the_command_it_prints(new, capsys):
    new("task", "my-words", "my_words")
    (command,) = re.findall(r"manifold-lora (train .*)", capsys.readouterr().out)
    done = subprocess.run(
        [sys.executable, "-m", "manifold_lora.experiments.cli", *command.split()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"my-words │ +60 │ +([\d.]+)", done.stdout)
    assert float(accuracy) > 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["geomtry", "x"], "did you mean 'geometry'"),
        (["geometry"], "one word of lower-case letters"),
        (["geometry", "My Space"], "one word of lower-case letters"),
        (["geometry", "../up"], "one word of lower-case letters"),
        (["geometry", "lorentz"], "a name that no module and no geometry has"),
        (["task", "gsm8k"], "a name that no module and no task has"),
        (["task", "torch"], "a name that no module and no task has"),
        (["task", "class"], "a name that no module and no task has"),
        (["task", "taken"], "taken.py is there"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.py").write_text("mine")
    assert main(["new", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["taken.py"]
    assert (tmp_path / "taken.py").read_text() == "mine"
