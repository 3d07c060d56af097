import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from manifold_lora.errors import ManifoldLoraError, PointError, UnknownNameError
from manifold_lora.experiments.token_geometry.embeddings import EmbeddingTable

SMALL = {
    "hidden_size": 16,
    "d_model": 16,
    "n_embd": 16,
    "num_hidden_layers": 1,
    "n_layer": 1,
    "num_layers": 1,
    "num_attention_heads": 2,
    "n_head": 2,
    "num_heads": 2,
    "num_key_value_heads": 2,
    "d_kv": 8,
    "d_ff": 16,
    "head_dim": 8,
    "intermediate_size": 16,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen2", "gpt2", "bert", "t5", "gpt_neox", "opt"])
def test_the_table_is_the_models_own_input_embedding_in_every_family(family, tmp_path):
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **SMALL))
    model.save_pretrained(tmp_path)
    expected = model.get_input_embeddings().weight.detach().numpy()
    table = EmbeddingTable.open(str(tmp_path))
    assert np.array_equal(table.rows(range(50)), expected[:50].astype(np.float64))
    assert np.allclose(table.norms, np.linalg.norm(expected.astype(np.float64), axis=1))


def test_only_the_shard_with_the_embeddings_is_opened(tiny, tmp_path):
    model = AutoModel.from_pretrained(tiny)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    table = EmbeddingTable.open(str(tmp_path))
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for shard in tmp_path.glob("*.safetensors"):
        if shard != table.path:
            shard.unlink()
    assert np.array_equal(table.rows([3]), model.get_input_embeddings().weight[[3]].detach().double().numpy())


def test_tied_embeddings_saved_under_the_output_layer_are_found(tmp_path):
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    save_file({"lm_head.weight": weight}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of_my_own"}))
    assert np.array_equal(EmbeddingTable.open(str(tmp_path)).rows(range(20)), weight.double().numpy())


def test_half_precision_is_read_as_it_is(tmp_path):
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"model.embed_tokens.weight": weight}, tmp_path / "model.safetensors")
    assert np.array_equal(
        EmbeddingTable.open(str(tmp_path)).rows([7, 7, 0]), weight[[7, 7, 0]].double().numpy()
    )


def test_blocks_join_to_the_whole(tiny, monkeypatch):
    whole = EmbeddingTable.open(str(tiny))
    expected, norms, digest = whole.rows(range(whole.vocabulary)), whole.norms, whole.sha256
    monkeypatch.setattr("manifold_lora.experiments.token_geometry.embeddings._BLOCK", 3)
    again = EmbeddingTable.open(str(tiny))
    assert np.array_equal(again.rows(range(again.vocabulary)), expected)
    assert np.array_equal(again.norms, norms)
    assert again.sha256 == digest


def test_the_hash_is_of_the_matrix_alone(tiny, tmp_path):
    weight = torch.ones(5, 2)
    digests = []
    for i, extra in enumerate((0.0, 1.0)):
        folder = tmp_path / str(i)
        folder.mkdir()
        save_file({"wte.weight": weight, "other": torch.tensor([extra])}, folder / "model.safetensors")
        digests.append(EmbeddingTable.open(str(folder)).sha256)
    assert digests[0] == digests[1] != EmbeddingTable.open(str(tiny)).sha256


@pytest.mark.parametrize("ids", [[50_000], [-1]])
def test_ids_of_another_tokenizer_are_refused(tiny, ids):
    with pytest.raises(ManifoldLoraError, match="does the tokenizer belong"):
        EmbeddingTable.open(str(tiny)).rows(ids)


def test_a_folder_that_is_not_there_names_the_nearest(tiny):
    with pytest.raises(UnknownNameError, match="model folder"):
        EmbeddingTable.open(str(tiny) + "x")


def test_pickled_weights_and_no_model_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ManifoldLoraError, match="safetensors"):
        EmbeddingTable.open(str(tmp_path))
    with pytest.raises(ManifoldLoraError, match="--model"):
        EmbeddingTable.open("")


def test_a_checkpoint_without_embeddings_is_refused(tmp_path):
    save_file({"conv.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ManifoldLoraError, match="input embeddings"):
        EmbeddingTable.open(str(tmp_path))


def test_nan_rows_are_named_by_token(tmp_path):
    weight = torch.ones(9, 2)
    weight[4] = torch.nan
    save_file({"wte.weight": weight}, tmp_path / "model.safetensors")
    with pytest.raises(PointError, match=r"tokens \[4\]"):
        _ = EmbeddingTable.open(str(tmp_path)).norms


def test_a_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ManifoldLoraError, match="model-00001-of-00002"):
        EmbeddingTable.open(str(tmp_path))


def test_a_name_that_cannot_be_reached_is_reported(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ManifoldLoraError, match="no such model, or the hub cannot be reached"):
        EmbeddingTable.open("nobody/none")
