"""Adapters in vLLM, in the environment of `make test-vllm`; elsewhere these tests say why they skip."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make served_models.py importable


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, its adapters and Hugging Face's answers."""
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")
    from served_models import build_all

    return build_all(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def served(root: Path):
    """vLLM in this process."""
    from served_models import engine

    return engine(root)
