"""manifold-lora new geometry | task NAME"""

import re
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.registry import Registry

EXAMPLES = Path(__file__).parents[1] / "examples"
# kind -> the name that its example bears, and how the file is used once it is written.
KINDS = {
    "geometry": (
        "gans",
        "manifold-lora check {module}:{Class}",
        "manifold-lora train --plugin {module} --adapter.manifold {name}",
    ),
    "task": ("later_word", "manifold-lora train --plugin {module} --task {name}"),
}
USAGE = """usage: manifold-lora new geometry | task NAME

Write NAME.py in the working directory: a geometry (the Gans model) or a task (the later of two words) that
works, with its tests, under your name. Replace its formulas or its items and keep the tests.

  NAME             lower-case letters, digits, - and _
  -h, --help       this text"""


def main(argv: list[str]) -> int:
    """Write the example under a new name; exit 0, or 2 for bad input."""
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] not in KINDS:
        raise UnknownNameError("kind of part", argv[0], tuple(KINDS))
    if len(argv) != 2 or not re.fullmatch("[a-z][a-z0-9_-]*", argv[1]):
        allowed = "one word of lower-case letters, digits, - and _"
        raise ManifoldLoraError(f"name of the new {argv[0]}", " ".join(argv[1:]), allowed)
    kind, name = argv
    module = name.replace("-", "_")
    path = Path(f"{module}.py")
    if path.exists():
        raise ManifoldLoraError(f"name of the new {kind}", name, f"a name without a file: {path} is there")
    if iskeyword(module) or find_spec(module) or name in _registry(kind):
        raise ManifoldLoraError(f"name of the new {kind}", name, f"a name that no module and no {kind} has")
    example, *uses = KINDS[kind]
    names = {"name": name, "module": module, "Class": _class_name(module)}
    text = (EXAMPLES / f"{kind}.txt").read_text(encoding="utf-8")
    text = text.replace(f'"{example}"', f'"{name}"').replace(example, module)
    path.write_text(text.replace(_class_name(example), names["Class"]), encoding="utf-8")
    print("\n  ".join([f"wrote {path}", f"pytest {path}", *(use.format(**names) for use in uses)]))
    return 0


def _class_name(module: str) -> str:
    return "".join(part.title() for part in module.split("_"))


def _registry(kind: str) -> Registry[Any]:
    if kind == "geometry":
        return MANIFOLDS
    # Tasks need the extra, geometries do not.
    from manifold_lora.experiments.tasks.registry import TASKS

    return TASKS
