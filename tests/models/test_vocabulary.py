"""Heads, embeddings and resized vocabularies: saved and loaded right, or refused with the reason."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.manifest import MANIFEST, WEIGHTS
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.vocabulary import added_tokens, stated_vocabulary

# What peft says of every tied head, and of what it saves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
]
NEW = 6
METHODS = [ManifoldLoraConfig, LoraConfig]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def folder(request, base, model_folder, tmp_path):
    """A base on disk, and its tokenizer."""
    config = LlamaConfig(**{**base().config.to_dict(), "tie_word_embeddings": request.param})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    for file in model_folder("llama").glob("*token*"):
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    return tmp_path / "base"


def load(folder, tokens=0):
    model = AutoModelForCausalLM.from_pretrained(folder)
    if tokens:
        model.resize_token_embeddings(model.config.vocab_size + tokens)
    return model


@pytest.fixture
def adapter(folder, shake):
    def build(method=ManifoldLoraConfig, tokens=0, targets=("q_proj",), **options):
        config = method(r=2, target_modules=list(targets), task_type="CAUSAL_LM", **options)
        return shake(get_peft_model(load(folder, tokens), config)).eval()

    return build


def test_what_is_known_of_a_base(folder):
    assert (stated_vocabulary(load(folder)), added_tokens(load(folder, NEW))) == (64, NEW)
    nameless = AutoModelForCausalLM.from_config(load(folder).config)
    nameless.config._name_or_path = ""
    assert (stated_vocabulary(nameless), added_tokens(nameless)) == (None, 0)
    assert stated_vocabulary(torch.nn.Linear(2, 2)) is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("targets", [("lm_head",), ("q_proj", "lm_head")], ids=str)
def test_a_head_is_adapted_saved_and_loaded(adapter, folder, tokens, tmp_path, method, targets):
    model = adapter(method, targets=targets)
    saved = save_adapter(model, tmp_path / "adapter")
    assert not any("base_layer" in name for name in load_file(saved / WEIGHTS))
    for again in (
        load_adapter(saved),
        load_adapter(saved, load(folder)),
        PeftModel.from_pretrained(load(folder), saved),
    ):
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "left_out", [{"exclude_modules": ["lm_head"]}, {"layers_to_transform": [0]}], ids=str
)
def test_a_head_with_new_tokens_that_is_named_and_left_out_is_refused(folder, tmp_path, method, left_out):
    """peft would save none of its rows, and the file would load with others."""
    config = method(target_modules=["q_proj", "lm_head"], **left_out)
    with pytest.raises(ManifoldLoraError, match=r"lm_head.*6 tokens fewer"):
        save_adapter(get_peft_model(load(folder, NEW), config), tmp_path / "adapter")
    assert save_adapter(get_peft_model(load(folder), config), tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("method", METHODS)
def test_the_base_s_own_head_beside_an_adapter_of_peft_is_harmless(adapter, folder, tokens, tmp_path, method):
    model = adapter(method, targets=("lm_head",))
    model.save_pretrained(tmp_path / "plain")
    assert any("base_layer" in name for name in load_file(tmp_path / "plain" / WEIGHTS))
    assert torch.equal(load_adapter(tmp_path / "plain").eval()(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("method", METHODS)
def test_new_tokens_come_with_the_adapter(adapter, folder, tokens, tmp_path, method):
    model = adapter(method, tokens=NEW)
    saved = save_adapter(model, tmp_path / "adapter")
    tokens[0, 0] = model.config.vocab_size - 1
    for again in (load_adapter(saved), load_adapter(saved, load(folder, NEW))):
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)
    with pytest.raises(ManifoldLoraError, match="vocab_size"):
        load_adapter(saved, load(folder))


# peft writes their tensors under two names each where the vocabulary was resized.
WHOLE = [
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"modules_to_save": ["lm_head"]},
    {"trainable_token_indices": [1, 66, 69]},
]


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", WHOLE, ids=str)
def test_new_tokens_that_are_trained_whole_come_with_the_adapter(
    adapter, folder, tokens, tmp_path, method, options
):
    model = adapter(method, tokens=NEW, **options)
    saved = save_adapter(model, tmp_path / "adapter")
    model.save_pretrained(tmp_path / "plain")
    tokens[0, 0] = 69
    for again in (
        load_adapter(saved),
        load_adapter(saved, load(folder, NEW)),
        load_adapter(tmp_path / "plain"),
    ):
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
def test_a_second_name_with_other_numbers_is_refused(adapter, folder, tmp_path):
    saved = save_adapter(adapter(tokens=NEW, modules_to_save=["lm_head"]), tmp_path / "adapter")
    (saved / MANIFEST).unlink()
    tensors = load_file(saved / WEIGHTS)
    tensors["base_model.model.lm_head.modules_to_save.weight"].add_(1.0)
    save_file(tensors, saved / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ManifoldLoraError, match=r"another .*lm_head.modules_to_save.weight"):
        load_adapter(saved, load(folder, NEW))


@pytest.mark.parametrize("method", [*METHODS, BottleneckConfig])
def test_a_head_with_new_tokens_is_refused_before_training_or_before_saving(folder, tmp_path, method):
    config = method(target_modules=["lm_head"])
    with pytest.raises(ManifoldLoraError, match=r"lm_head.*6 tokens fewer"):
        save_adapter(get_peft_model(load(folder, NEW), config), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("row", "allowed"), [(64, True), (63, False), (0, False)])
def test_only_the_rows_of_new_tokens_may_differ(adapter, folder, tmp_path, method, row, allowed):
    saved = save_adapter(adapter(method, tokens=NEW), tmp_path / "adapter")
    tensors = load_file(saved / WEIGHTS)
    for name in tensors:
        if "embed_tokens" in name or "lm_head" in name:
            tensors[name] = tensors[name].clone().index_fill_(0, torch.tensor(row), 1.0)
    save_file(tensors, saved / WEIGHTS, metadata={"format": "pt"})
    (saved / MANIFEST).unlink()
    # Plain peft comes by our tuner, for our method.
    plain = method is ManifoldLoraConfig
    loaders = [load_adapter, *([lambda path, model: PeftModel.from_pretrained(model, path)] if plain else [])]
    for loader in loaders:
        base = load(folder, NEW)
        if allowed:
            loader(saved, base)
        else:
            with pytest.raises(ManifoldLoraError, match="new tokens only"):
                loader(saved, base)
        kept = load(folder)
        for which in ("get_input_embeddings", "get_output_embeddings"):
            weight = getattr(base, which)().weight
            assert torch.equal(weight[:64], getattr(kept, which)().weight)
            assert bool((weight[64] == 1.0).all()) == allowed


@pytest.mark.filterwarnings("ignore:.*has no manifold_lora.json")
@pytest.mark.parametrize("key", ["model.embed_tokens.weight", "lm_head.weight"])
def test_the_base_s_own_names_in_an_unsealed_file(adapter, folder, tmp_path, key):
    saved = save_adapter(adapter(), tmp_path / "adapter")
    (saved / MANIFEST).unlink()
    own = load(folder).state_dict()[key]
    tensors = {**load_file(saved / WEIGHTS), f"base_model.model.{key}": torch.zeros_like(own)}
    save_file(tensors, saved / WEIGHTS, metadata={"format": "pt"})
    base = load(folder)
    for loader in (load_adapter, lambda path, model: PeftModel.from_pretrained(model, path)):
        with pytest.raises(ManifoldLoraError, match="tensors of adapter"):
            loader(saved, base)
        base = load(folder)
    assert torch.equal(base.state_dict()[key], own)


@pytest.mark.parametrize(
    "tokens", [[64], [-1], [True], {"embed_tokens": [10**9]}, {"embed_token": [1]}], ids=str
)
def test_tokens_that_the_model_has_not_are_refused_before_it_is_touched(folder, tokens):
    base = load(folder)
    with pytest.raises(ManifoldLoraError, match="trainable_token_indices: got"):
        get_peft_model(
            base, ManifoldLoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=tokens)
        )
    assert not any("lora" in name for name, _ in base.named_modules())


@pytest.mark.parametrize("method", [ManifoldLoraConfig, BottleneckConfig])
def test_a_target_that_is_also_trained_whole_is_refused(folder, method):
    with pytest.raises(ManifoldLoraError, match=r"lm_head.*modules_to_save"):
        get_peft_model(
            load(folder), method(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])
        )
    # A pattern may be wider than what it adapts.
    assert get_peft_model(
        load(folder), method(target_modules=".*(q_proj|lm_head)", modules_to_save=["lm_head"])
    )


def test_merging_into_a_tied_head_is_refused(adapter, folder, tokens):
    model = adapter(targets=("q_proj", "lm_head"), transform="tangent", norm_scaling="identity")
    before = model(tokens).logits
    if not load(folder).config.tie_word_embeddings:
        torch.testing.assert_close(model.merge_and_unload()(tokens).logits, before, rtol=1e-4, atol=1e-4)
        return
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ManifoldLoraError, match=r"lm_head.*tied"):
            merge()
    assert torch.equal(model(tokens).logits, before)
