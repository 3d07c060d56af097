"""Every name that a package offers is the thing itself, in whichever order it is imported."""

import subprocess
import sys

import pytest

PACKAGES = (
    "manifold_lora",
    "manifold_lora.manifolds",
    "manifold_lora.adapters",
    "manifold_lora.models",
    "manifold_lora.experiments.token_geometry",
    "manifold_lora.experiments.tasks",
)
PROGRAM = """
import ast, importlib, inspect, types
package = importlib.import_module({package!r})
block, = (node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If))
homes = {{alias.name: node.module for node in block.body for alias in node.names}}
assert set(homes) == set(package.__all__) - {{"__version__"}}, "the type checker reads other names"
if {files_first}:
    for home in homes.values():
        importlib.import_module(home)
for _ in range(2):
    for name in package.__all__:
        found = {{}}
        exec(f"from {package} import {{name}} as it", found)
        assert not isinstance(found["it"], types.ModuleType), name
        if name in homes:
            assert found["it"] is vars(importlib.import_module(homes[name]))[name], name
"""


# Processes of their own: here the packages were imported long ago, in another order.
@pytest.mark.parametrize("files_first", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_what_its_file_defines(package, files_first):
    code = PROGRAM.format(package=package, files_first=files_first)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
