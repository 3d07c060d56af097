"""The shapes in the signatures of manifolds/ and adapters/ hold while code runs (jaxtyping, beartype)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "manifold_lora.manifolds,manifold_lora.adapters,beartype.beartype"


# In a process of its own: the checks slow every call and are in the way of torch.compile.
def test_annotated_shapes_hold():
    tests = "tests/adapters/test_layer.py", "tests/shapes_of_geometries.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        [*command, f"--jaxtyping-packages={PACKAGES}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_a_wrong_shape_is_caught():
    code = (
        "import jaxtyping\n"
        "with jaxtyping.install_import_hook('manifold_lora.manifolds', 'beartype.beartype'):\n"
        "    from manifold_lora.manifolds.functions import norm\n"
        "norm('not a tensor')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "TypeCheckError" in done.stderr
