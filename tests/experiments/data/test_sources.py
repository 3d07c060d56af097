"""Sets that a data folder does not hold: where else they are to be had."""

import json

import pytest

from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.data.sources import Sources
from manifold_lora.experiments.tasks.registry import build_task


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tests").mkdir()
    rows = [{"id": "t", "instruction": "Add 40 to 2?", "answer": "42.0"}]
    (tmp_path / "tests" / "gsm8k.json").write_text(json.dumps(rows))
    return tmp_path


@pytest.mark.parametrize(
    ("task", "file", "hub"),
    [
        ("singleeq", "tests/SingleEq.json", "allenai/lila"),
        ("boolq", "commonsense/boolq.test.json", "google/boolq"),
        ("commonsense", "commonsense/boolq.test.json", "google/boolq"),
        ("gsm8k", "train/gsm8k_train.jsonl", "openai/gsm8k"),
    ],
)
def test_a_file_that_is_missing_can_be_had_from_the_hub(task, file, hub, folder):
    with pytest.raises(DataError) as caught:
        build_task(task, folder, style="text")
    message = str(caught.value)
    assert message.startswith(f"{folder / file}: file")
    assert "without task.data" in message
    assert hub in message
    assert "did you mean" not in message


def test_where_the_hub_has_none_the_nearest_file_is_named(folder):
    (folder / "train").mkdir()
    (folder / "train" / "math10k_rebuilt.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"did you mean 'math10k_rebuilt\.jsonl'"):
        Sources(folder).train("math10k")
