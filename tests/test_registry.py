"""Registries: parts declared, decorated or offered by an installed package, and who may share a name."""

import sys

import pytest

from manifold_lora.adapters.registry import NORM_SCALINGS, TRANSFORMS
from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.tasks.registry import TASKS, check_task
from manifold_lora.manifolds.plugins import check_installed, load_plugins
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.registry import Registry

REGISTRIES = (MANIFOLDS, TRANSFORMS, NORM_SCALINGS, TASKS)
GROUP = "manifold_lora.tests"
MODULE = """
from tests_registry import PARTS

@PARTS.register("mine", sign=-1)
class Mine:
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put modules and the entry points of one package where Python finds them; forget them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def package(name, points, group=GROUP, **modules):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{point} = {value}\n" for point, value in points.items())
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)

    yield package
    for module in set(sys.modules) - before:
        del sys.modules[module]


@pytest.fixture
def parts(monkeypatch):
    """A registry that the modules of a test import as tests_registry.PARTS."""
    registry = Registry("part", GROUP)
    registry.declare("own", "collections:OrderedDict", sign=1)
    monkeypatch.setitem(sys.modules, "tests_registry", type(sys)("tests_registry"))
    sys.modules["tests_registry"].PARTS = registry
    return registry


def test_a_part_is_decorated_and_offered_by_the_same_package(install, parts):
    install("mine", {"mine": "mine_parts:Mine"}, mine_parts=MODULE)
    assert list(parts) == ["mine", "own"]
    assert parts.metadata("mine") == {}, "listing what is installed imports nothing"
    assert parts.check("mine") == "mine"
    assert parts.metadata("mine") == {"sign": -1}
    assert parts["mine"] is sys.modules["mine_parts"].Mine


def test_a_module_that_decorates_needs_no_attribute_in_its_entry_point(install, parts):
    install("mine", {"mine": "mine_parts"}, mine_parts=MODULE)
    assert parts["mine"] is sys.modules["mine_parts"].Mine


def test_a_part_without_decorator_is_the_object_of_its_entry_point(install, parts):
    install("mine", {"mine": "mine_parts:Mine"}, mine_parts="class Mine: pass")
    assert parts[parts.check("mine")] is sys.modules["mine_parts"].Mine
    assert parts.metadata("mine") == {}


def test_a_part_may_be_offered_from_another_module_of_its_package(install, parts, tmp_path):
    (tmp_path / "mine_parts").mkdir()
    (tmp_path / "mine_parts" / "deep.py").write_text(MODULE)
    (tmp_path / "mine_parts" / "__init__.py").write_text("from mine_parts.deep import Mine")
    install("mine", {"mine": "mine_parts:Mine"})
    assert parts["mine"].__module__ == "mine_parts.deep"


@pytest.mark.parametrize("name", ["own", "mine", "twice"])
def test_another_part_of_the_same_name_is_refused(install, parts, name):
    install("theirs", {"mine": "their_parts:Mine"})
    parts.register("twice")(dict)
    with pytest.raises(ManifoldLoraError, match=f"new part: got '{name}'; allowed: a name other than"):
        parts.register(name)(list)


def test_a_part_defined_again_replaces_itself(parts):
    made = [parts.register("again", sign=sign)(type("Again", (), {})) for sign in (1, -1)]
    assert parts["again"] is made[1]
    assert parts.metadata("again") == {"sign": -1}


@pytest.mark.parametrize(
    ("value", "module", "message"),
    [
        ("sick_parts:Mine", "raise RuntimeError('no luck')", "'sick_parts:Mine'.*RuntimeError: no luck"),
        ("sick_parts:Mine", "", "has no attribute 'Mine'"),
        ("sick_parts", "", "an object, not a module"),
        ("no_such_parts:Mine", "", "No module named 'no_such_parts'"),
    ],
)
def test_an_entry_point_that_gives_no_part_is_named(install, parts, value, module, message):
    install("sick", {"mine": value}, sick_parts=module)
    with pytest.raises(ManifoldLoraError, match=f"part 'mine' of an installed package: got .*{message}"):
        parts.check("mine")


def test_two_packages_that_offer_one_name_are_named(install, parts):
    install("one", {"mine": "one_parts:Mine"})
    install("two", {"mine": "two_parts:Mine"})
    with pytest.raises(ManifoldLoraError, match=r"(one|two)_parts:Mine and (one|two)_parts:Mine"):
        parts["mine"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_registry_takes_installed_parts_and_a_config_may_name_them(install, registry, monkeypatch):
    for held in ("_parts", "_metadata"):
        monkeypatch.setattr(registry, held, dict(getattr(registry, held)))
    text = f"import {type(registry).__module__}\nclass Mine: pass\n"
    install("mine", {"mine-of-yours": "yours:Mine"}, group=registry.group, yours=text)
    check_installed(["mine-of-yours"])
    load_plugins(["mine-of-yours"])
    assert registry[registry.check("mine-of-yours")] is sys.modules["yours"].Mine
    with pytest.raises(UnknownNameError, match="did you mean 'mine-of-yours'"):
        registry.check("mine-of-your")


def test_a_task_of_another_package_keeps_its_facts(install, monkeypatch):
    for held in ("_parts", "_metadata"):
        monkeypatch.setattr(TASKS, held, dict(getattr(TASKS, held)))
    text = """
from manifold_lora.experiments.tasks.registry import TASKS
from manifold_lora.experiments.tasks.taxonomy import Taxonomy
@TASKS.register("trees", reads="folder")
class Trees(Taxonomy):
    pass
"""
    install("trees", {"trees": "trees_task:Trees"}, group=TASKS.group, trees_task=text)
    check_task("trees")
    assert TASKS.metadata("trees") == {"reads": "folder"}
