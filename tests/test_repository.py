"""The repository itself under test: the public API, lazy imports, the README's code, the packaging lists."""

import importlib
import json
import re
import subprocess
import sys
import tomllib

import pytest
from documents import PAGES, ROOT, blocks, page_id

FLOORS = ("manifolds", "adapters", "models", "experiments")


def test_every_public_name_resolves():
    package = importlib.import_module("manifold_lora")
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'LoRRA'"):
        package.LoRRA  # noqa: B018


def test_the_floors_are_symlinks_and_the_top_level_names_are_not_importable():
    for floor in FLOORS:
        link = ROOT / "manifold_lora" / floor
        assert link.is_symlink()
        assert link.resolve() == ROOT / floor
    code = "import sys; sys.path = [p for p in sys.path if p]; import adapters"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_every_package_is_listed_for_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        f"manifold_lora.{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}"
        for floor in FLOORS
        for path in (ROOT / floor).rglob("__init__.py")
    }
    assert listed == found | {"manifold_lora"}


@pytest.mark.parametrize(
    "module",
    [
        "manifold_lora",
        *(f"manifold_lora.{floor}" for floor in FLOORS),
        "manifold_lora.manifolds.registry",
        "manifold_lora.manifolds.spec",
        "manifold_lora.adapters.spec",
        "manifold_lora.experiments.sweeps.cells",
        "manifold_lora.experiments.cli",
    ],
)
def test_reading_a_config_does_not_import_torch(module):
    code = f"import sys, {module}; assert not {{'torch', 'transformers', 'peft'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_quick_start_runs_on_a_saved_model(tmp_path):
    from manifold_lora.models.tiny import tiny_model

    (quick_start,) = [block for block in blocks(ROOT / "README.md", "python") if "get_peft_model" in block]
    assert len(quick_start.strip().splitlines()) <= 8
    tiny_model(64, hidden_size=16, layers=1, heads=2, intermediate_size=32).save_pretrained(tmp_path)
    check = "assert type(model.base_model).__name__ == 'ManifoldLoraModel'"
    code = f"BASE = {str(tmp_path)!r}\n{quick_start}\n{check}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "trainable params" in done.stdout


def test_the_other_python_blocks_of_the_readme_run():
    others = [block for block in blocks(ROOT / "README.md", "python") if "get_peft_model" not in block]
    assert len(others) >= 2
    for block in others:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_what_a_python_block_says_it_gives_is_an_assertion(path):
    """Blocks are executed, here or by test_documentation; a result in a comment would not be."""
    lines = [line for block in blocks(path, "python") for line in block.splitlines()]
    results = [line for line in lines if re.search(r"#\s*(->|=|[-(\[]?\d)", line) and "assert" not in line]
    assert results == []


def test_every_name_of_ours_in_the_readme_is_in_the_package():
    offered = {}
    for floor in FLOORS[:3]:
        offered |= dict.fromkeys(importlib.import_module(f"manifold_lora.{floor}").__all__, floor)
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {name for code in re.findall(r"`([^`]+)`", text) for name in re.findall(r"\w+", code)}
    named |= {name for block in blocks(ROOT / "README.md", "python") for name in re.findall(r"\w+", block)}
    ours = named & offered.keys()
    assert {"load_adapter", "save_adapter", "create_optimizer", "GeometryLog", "ManifoldLoRA"} <= ours
    assert ours - set(importlib.import_module("manifold_lora").__all__) == set()


def test_the_study_has_as_many_cells_as_is_said():
    manifests = ROOT.glob("docs/study/*/manifest.json")
    count = sum(len(json.loads(path.read_text(encoding="utf-8"))["cells"]) for path in manifests)
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "README.md")]
    said = [re.findall(r"[Ss]tudy\b[^.]*?(\d+) cells", text) for text in texts]
    assert said[0] == [str(count)]
    assert set(said[1]) <= {str(count)}


def test_files_stay_small():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
    }
    assert [str(path) for path, length in lengths.items() if length > 300] == []
    assert sorted(lengths.values())[len(lengths) // 2] < 150


FORBIDDEN = {
    "pickle": r"^\s*(import|from) (pickle|dill|cloudpickle)\b",
    "torch.load without weights_only": r"torch\.load\((?!.*weights_only=True)",
    "remote code": r"trust_remote_code\W+True",
    "unsafe YAML": r"yaml\.(load|unsafe_load|full_load)\(",
    "eval or exec": r"(?<![\w.])(eval|exec)\(",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_code_runs_what_it_reads(what):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert found == []
