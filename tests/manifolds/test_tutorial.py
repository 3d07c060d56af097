"""manifolds/README.md, executed: every python block runs, the outside geometry keeps the contract."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.commands.check import check_class
from manifold_lora.manifolds import MANIFOLDS, build_manifold, load_plugins
from manifold_lora.manifolds.plugins import check_installed
from manifold_lora.manifolds.testing import check_manifold

README = Path(__file__).parents[2] / "manifolds" / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def gans_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "gans_plugin.py"
    path.write_text(blocks()[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("gans_plugin", None)
    for held in (MANIFOLDS._parts, MANIFOLDS._metadata):
        held.pop("gans", None)


def test_gans_and_its_tests_take_under_forty_lines() -> None:
    assert 10 < len(blocks()[1].strip().splitlines()) < 40


def test_readme_blocks_run(gans_plugin: Path) -> None:
    for number in (0, 2):  # The plugin in between is imported by the last block.
        block = blocks()[number]
        exec(compile(block, f"README block {number}", "exec"), {"__name__": f"readme_{number}"})


@pytest.mark.slow
def test_gans_by_name_keeps_the_contract(gans_plugin: Path) -> None:
    load_plugins(["gans_plugin"])
    gans = build_manifold({"name": "gans", "curvature": -0.5})
    assert all(o.passed for o in check_manifold(gans, examples=1))
    assert "test_gans" in vars(importlib.import_module("gans_plugin"))


def test_check_from_the_shell(gans_plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_class("gans_plugin:Gans", examples=1, only=["law_of_cosines", "riesz"]) == 0
    message = capsys.readouterr().out
    assert "law_of_cosines" in message
    assert "properties hold" in message


def test_check_fails_a_broken_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = blocks()[1].replace("return g - self.", "return g + self.").replace('"gans"', '"broken_gans"')
    (tmp_path / "broken_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert check_class("broken_plugin:Gans", examples=1, only=["riesz"]) == 1
    finally:
        MANIFOLDS._parts.pop("broken_gans", None)
        MANIFOLDS._metadata.pop("broken_gans", None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:Gans", "No module named"),
        ("math:Gans", "class in math: got 'Gans'"),
        ("lorenz", "did you mean 'lorentz'"),
        ("manifold_lora.manifolds.base:Manifold", "missing: coords"),
        ("math:pi", "a subclass or an instance of Manifold"),
    ],
)
def test_check_of_a_bad_target(target: str, message: str) -> None:
    with pytest.raises(ManifoldLoraError, match=re.escape(message)):
        check_class(target)


def test_unknown_plugin_is_named() -> None:
    with pytest.raises(UnknownNameError, match="plugin: got 'no_such_plugin'"):
        load_plugins(["no_such_plugin"])


def test_plugin_that_fails_to_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sick_plugin.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ManifoldLoraError, match="RuntimeError: no luck"):
        load_plugins(["sick_plugin"])


def test_config_file_may_not_name_a_module(gans_plugin: Path) -> None:
    with pytest.raises(UnknownNameError, match="on the command line"):
        check_installed(["gans_plugin"])
    assert "gans_plugin" not in sys.modules
