"""Every name that a package offers is the thing itself, in whichever order it is imported."""

import json
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


# A process for each program: here the packages were imported long ago, in another order.
APART = """
import json, os, sys, traceback
import peft, transformers  # what takes seconds and is not ours, once for all
for code in json.load(sys.stdin):
    if (child := os.fork()) == 0:
        try:
            exec(code, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)])
def ended(request):
    """How each package's program ended, and what all of them wrote to stderr."""
    programs = [PROGRAM.format(package=package, files_first=request.param) for package in PACKAGES]
    command = [sys.executable, "-W", "ignore", "-c", APART]
    done = subprocess.run(command, input=json.dumps(programs), capture_output=True, text=True)
    return dict(zip(PACKAGES, done.stdout.split(), strict=True)), done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_what_its_file_defines(package, ended):
    codes, said = ended
    assert codes[package] == "0", said[-1000:]
