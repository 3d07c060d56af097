"""R29: a file that changes the prompt or the geometry is changed, and cells get other names: they run."""

import json
import sys
from pathlib import Path

import pytest
from fault_runs import save_base

from manifold_lora.experiments.runs.fingerprint import fingerprint
from manifold_lora.experiments.settings import plugin_sources
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.plugin_sources import plugin_inputs
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.manifolds.plugins import load_plugins

# Beside the six that RELIABILITY names: what else transformers opens in a model folder.
SIX = ("chat_template.jinja", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
OTHERS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "model.safetensors",
    "additional_chat_templates/rag.jinja",
)
PLUGIN = """
from manifold_lora.manifolds.lorentz import Lorentz
from manifold_lora.manifolds.registry import MANIFOLDS
from {helper} import LEVEL

@MANIFOLDS.register("{name}")
class Other(Lorentz):
    level = LEVEL
"""


def names_of_cells(base: Path) -> set[str]:
    """The cells of a sweep as its driver names them."""
    data = {"model": {"name": str(base)}, "grid": {"arm": ["lora", "direct"]}}
    settings = validate(AblationSettings, data, "test")
    plugins = plugin_inputs(settings.model_dump(mode="json"))
    return {cell.id for cell in expand(settings, {"base": fingerprint(str(base), None), **plugins})}


@pytest.mark.parametrize("change", ["made", "changed", "removed"])
def test_a_file_of_the_base(tmp_path: Path, tally, change) -> None:
    base = save_base(tmp_path / "base")
    (base / "additional_chat_templates").mkdir()
    for name in (*SIX, *OTHERS):
        path = base / name
        if not path.exists() and change != "made":
            path.write_text("{}")
    noticed = []
    for name in (*SIX, *OTHERS):
        path, before = base / name, names_of_cells(base)
        if change == "removed":
            path.unlink()
        else:
            path.write_bytes((path.read_bytes() if path.exists() else b"{") + b" ")
        noticed.append(not before & names_of_cells(base))
    tally("R29", f"a file of the base model is {change}", sum(noticed), len(SIX) + len(OTHERS))


def test_what_nothing_reads_changes_no_name(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    before = names_of_cells(base)
    for name in ("README.md", "model.py", "pytorch_model.bin", ".gitattributes"):
        (base / name).write_text("new")
    (base / "checkpoint-1").mkdir()
    (base / "checkpoint-1" / "config.json").write_text("{}")
    assert names_of_cells(base) == before


def test_the_source_of_a_plugin(tmp_path: Path, monkeypatch, tally) -> None:
    base, name, helper = save_base(tmp_path / "base"), "r29_plugin", "r29_helper"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("manifold_lora.manifolds.plugins._MODULES", [])
    before = names_of_cells(base)
    (tmp_path / f"{helper}.py").write_text("LEVEL = 1\n")
    (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name, helper=helper))
    load_plugins([name])
    loaded = names_of_cells(base)
    noticed = [not before & loaded]
    for file in (f"{helper}.py", f"{name}.py"):
        with (tmp_path / file).open("a") as source:
            source.write("# changed\n")
        noticed.append(not loaded & (loaded := names_of_cells(base)))
    (tmp_path / "bystander.py").write_text("")
    assert names_of_cells(base) == loaded
    tally("R29", "a plug-in is named, its helper and itself change", sum(noticed), 3)
    for module in (name, helper):
        sys.modules.pop(module)


def test_a_package_beside_a_plugin(tmp_path: Path, monkeypatch, tally) -> None:
    """What a plug-in reads its numbers from may be a package of its own, or lie deep in one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("manifold_lora.manifolds.plugins._MODULES", [])
    inner, other = tmp_path / "r29_beside" / "deep" / "inner.py", tmp_path / "r29_elsewhere.py"
    inner.parent.mkdir(parents=True)
    inner.write_text("LEVEL = 1\n")
    other.write_text("")
    plugin = tmp_path / "r29_pack" / "plug.py"
    plugin.parent.mkdir()
    (plugin.parent / "__init__.py").write_text("")
    plugin.write_text(PLUGIN.format(name="r29_pack", helper="r29_beside.deep.inner"))
    load_plugins(["r29_pack.plug"])
    known, noticed = plugin_inputs({}), []
    for file in (plugin, plugin.parent / "__init__.py", inner):
        file.write_text(file.read_text() + "# changed\n")
        noticed.append(known != (known := plugin_inputs({})))
    other.write_text("# changed\n")
    assert plugin_inputs({}) == known
    tally("R29", "a package beside a plug-in's", sum(noticed), 3)
    for module in [name for name in sys.modules if name.startswith("r29_")]:
        sys.modules.pop(module)


def test_what_an_installed_plugin_reads(tmp_path: Path, monkeypatch) -> None:
    """All of its files; of a package that is not installed its code, beside which results may be written."""
    package = tmp_path / "r29_data"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("manifold_lora.manifolds.plugins._MODULES", ["r29_data"])
    known = plugin_inputs({})
    (package / "levels.yaml").write_text("1")
    assert plugin_inputs({}) == known
    monkeypatch.setattr(plugin_sources, "_installed_in", lambda: (str(tmp_path),))
    levels = plugin_inputs({})
    (package / "levels.yaml").write_text("2")
    assert known != levels != plugin_inputs({})


def test_the_source_of_an_installed_plugin_counts_where_it_is_named(tmp_path: Path, monkeypatch) -> None:
    package, info = tmp_path / "r29_installed", tmp_path / "r29_installed-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: r29-installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[manifold_lora.manifolds]\nr29 = r29_installed:Other\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("manifold_lora.manifolds.plugins._MODULES", [])
    named = {"adapter": {"manifold": {"name": "product", "parts": [{"share": 1.0, "name": "r29"}]}}}
    before = plugin_inputs(named)
    assert plugin_inputs({"adapter": {"manifold": "lorentz"}}) == {}
    (package / "inner.py").write_text("LEVEL = 2\n")
    assert before != plugin_inputs(named) != {}
    assert json.dumps(before) != json.dumps({})
