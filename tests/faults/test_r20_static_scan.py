"""R20: what the source may not hold: pickles, unsafe loads, remote code, eval; results name their base."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifold_lora.experiments.runs.prepare import fingerprint

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("manifold_lora", "manifolds", "adapters", "models", "experiments")
    for path in (ROOT / folder).glob("*.py" if folder == "manifold_lora" else "**/*.py")
]
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def name_of(node: ast.expr) -> str:
    """The dotted name of a called expression."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> object:
    """The literal value of a keyword argument; None if it is not given."""
    for argument in call.keywords:
        if argument.arg == name:
            return argument.value.value if isinstance(argument.value, ast.Constant) else "computed"
    return None


def pickles(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in PICKLES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in PICKLES
    return isinstance(node, ast.Call) and keyword(node, "allow_pickle") not in (None, False)


def unsafe_torch_load(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and name_of(node.func) == "torch.load"
    return called and keyword(node, "weights_only") is not True


def remote_code(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return keyword(node, "trust_remote_code") not in (None, False)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return any(
            isinstance(key, ast.Constant) and key.value == "trust_remote_code" and value.value is not False
            for key, value in pairs
            if isinstance(value, ast.Constant)
        )
    return False


def unsafe_yaml(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = name_of(node.func)
    if called in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
        return True
    loader = next((argument.value for argument in node.keywords if argument.arg == "Loader"), None)
    return called in ("yaml.load", "yaml.load_all") and not _derives_from_safe(loader)


def _derives_from_safe(loader: ast.expr | None) -> bool:
    if loader is None:
        return False
    name = name_of(loader).rpartition(".")[2]
    return name == "SafeLoader" or f"class {name}(yaml.SafeLoader)" in YAML_SOURCE


def evaluation(node: ast.AST) -> bool:
    dangerous = ("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput")
    if not isinstance(node, ast.Call):
        return False
    return name_of(node.func) in dangerous or keyword(node, "shell") is True


YAML_SOURCE = (ROOT / "experiments" / "settings" / "yaml_file.py").read_text(encoding="utf-8")
RULES: dict[str, Callable[[ast.AST], bool]] = {
    "pickle": pickles,
    "torch.load without weights_only=True": unsafe_torch_load,
    "trust_remote_code=True": remote_code,
    "unsafe YAML": unsafe_yaml,
    "eval, exec or a shell": evaluation,
}


def findings(rule: Callable[[ast.AST], bool], path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if rule(node):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("what", RULES)
def test_no_file_of_the_package_holds(what: str, tally) -> None:
    found = {path: list(findings(RULES[what], path)) for path in SOURCES}
    assert len(SOURCES) > 100
    assert [place for places in found.values() for place in places] == []
    tally("R20", f"source files without {what}", sum(not places for places in found.values()), len(SOURCES))


def test_the_rules_find_what_they_are_for(tally) -> None:
    """The test of the scan itself."""
    bad = {
        "pickle": ["import pickle", "from dill import load", "numpy.load(p, allow_pickle=True)"],
        "torch.load without weights_only=True": ["torch.load(p)", "torch.load(p, weights_only=False)"],
        "trust_remote_code=True": ["f(trust_remote_code=True)", "f(**{'trust_remote_code': True})"],
        "unsafe YAML": ["yaml.load(t)", "yaml.load(t, Loader=yaml.Loader)", "yaml.unsafe_load(t)"],
        "eval, exec or a shell": ["eval(t)", "exec(t)", "os.system(t)", "subprocess.run(t, shell=True)"],
    }
    found = [
        any(RULES[what](node) for node in ast.walk(ast.parse(t)))
        for what, texts in bad.items()
        for t in texts
    ]
    tally("R20", "slips that the scan finds", sum(found), len(found))


def test_results_name_the_revision_of_a_hub_model(tally) -> None:
    """The fingerprint of the base stands in ``meta.inputs`` of every result."""
    tally(
        "R20", "hub revision in results", int(fingerprint("owner/model", "abc123") == "owner/model@abc123"), 1
    )
