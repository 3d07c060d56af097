"""Embedded bases: made once, whole or not at all, and loadable as any Hugging Face checkpoint."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from manifold_lora.experiments.tasks import BaseSpec, Document
from manifold_lora.experiments.tasks.taxonomy import Taxonomy
from manifold_lora.experiments.training import pretrain
from manifold_lora.experiments.training.pretrain import base_hash, ensure_base


class Sapling(Taxonomy):
    """A taxonomy whose base is pre-trained in a second."""

    steps = 8

    @property
    def base_spec(self) -> BaseSpec:
        return replace(super().base_spec, hidden_size=16, layers=1, intermediate_size=16, steps=self.steps)


class Context(Sapling):
    """Documents whose context does not count."""

    def pretraining_texts(self) -> Iterator[Document]:
        for document in super().pretraining_texts():
            head, arrow, _ = document.text.partition(" =>")
            yield replace(document, context=head + arrow) if arrow else document


@pytest.mark.parametrize("task", [Sapling(), Context()], ids=["whole", "context"])
def test_a_base_is_a_checkpoint_that_is_made_once(task: Sapling, tmp_path: Path) -> None:
    steps: list[int] = []
    folder = ensure_base(task, tmp_path / "a cache", lambda step, loss: steps.append(step))
    assert steps == list(range(1, 9))
    assert ensure_base(task, tmp_path / "a cache", lambda step, loss: steps.append(step)) == folder
    assert len(steps) == 8
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.hidden_size == 16
    assert model.dtype == torch.float32
    assert tokenizer("lca")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in tokenizer(task.train[0].prompt)["input_ids"]
    assert {path.suffix for path in (tmp_path / "a cache").iterdir()} <= {"", ".lock"}


def test_the_recipe_decides_the_weights(tmp_path: Path) -> None:
    first = AutoModelForCausalLM.from_pretrained(ensure_base(Sapling(), tmp_path / "a"))
    second = AutoModelForCausalLM.from_pretrained(ensure_base(Sapling(), tmp_path / "b"))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_the_hash_is_of_the_recipe_and_the_documents() -> None:
    class Longer(Sapling):
        steps = 9

    assert base_hash(Sapling()) == base_hash(Sapling(limit=3))
    assert len({base_hash(task) for task in (Sapling(), Longer(), Context(), Sapling(seed=1))}) == 4


def test_two_that_ask_at_once_train_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Path] = []
    plain = pretrain._pretrain

    def counted(task: Sapling, folder: Path, progress: object) -> None:
        trained.append(folder)
        plain(task, folder, progress)

    monkeypatch.setattr(pretrain, "_pretrain", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ensure_base(Sapling(), tmp_path), range(2))
    assert first == second
    assert len(trained) == 1


def test_a_stopped_one_leaves_nothing_that_passes_for_a_base(tmp_path: Path) -> None:
    def stop(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_base(Sapling(), tmp_path, stop)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert (ensure_base(Sapling(), tmp_path) / "model.safetensors").is_file()
