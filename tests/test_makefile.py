"""`make ablation`: which config it runs, and that a model of a package is fetched first."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("given", "fetched", "config"),
    [
        ([], "", "taxonomy"),
        (["TASK=arithmetic"], "", "arithmetic"),
        (["DATA=d"], "", "word_problems"),
        (["DATA=d", "MODEL=owner/model"], "", "word_problems"),
        (["MODEL=smollm2"], "smollm2", "real"),
        (["MODEL=smollm2", "DATA=d"], "smollm2", "real_data"),
        (["MODEL=smollm2", "TASK=taxonomy"], "smollm2", "taxonomy"),
        (["MODEL=gemma3", "FETCH=--accept-terms"], "gemma3 --accept-terms", "real"),
    ],
    ids=str,
)
def test_the_config_and_the_model(given, fetched, config):
    command = ["make", "--dry-run", "--assume-old", ".venv/installed", "ablation", *given]
    message = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [
        line.split("manifold-lora ")[1].strip() for line in message.splitlines() if "manifold-lora " in line
    ]
    *before, last = [line for line in lines if line.startswith(("fetch", "ablate"))]
    assert before == ([f"fetch {fetched}"] if fetched else [])
    assert last.startswith(f'ablate "experiments/configs/{config}.yaml"')
