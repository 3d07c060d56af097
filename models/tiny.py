"""Causal language models small enough to train on one core in seconds, with a word-level tokenizer."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from manifold_lora.errors import UnknownNameError

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"

# What a family needs beside the shape that all share.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 64, "layer_types": None},
    "qwen2": {},
    "mistral": {"sliding_window": None},
}


def tiny_model(
    vocabulary: int,
    *,
    family: str = "llama",
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    intermediate_size: int = 128,
    max_positions: int = 128,
    seed: int = 0,
) -> PreTrainedModel:
    """A randomly initialised causal LM in float32 whose special tokens are those of ``word_tokenizer``.

    The global random state is left as it was found. Raises UnknownNameError for a family not in FAMILIES.
    """
    if family not in FAMILIES:
        raise UnknownNameError("model family", family, tuple(FAMILIES))
    build: Any = CONFIG_MAPPING[family]
    config = build(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **FAMILIES[family],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def word_tokenizer(
    texts: Iterable[str], *, split_digits: bool = False, lowercase: bool = False, min_count: int = 1
) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is the words of ``texts`` as they appear; others are ``<unk>``,
    and so are those that appear fewer than ``min_count`` times.

    Words are what spaces separate; with ``split_digits`` every digit is a token of its own. Decoding restores
    the spaces. ``<s>`` is put before every text that is encoded with special tokens.
    """
    words = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    digits = pre_tokenizers.Digits(individual_digits=True)
    splitter = pre_tokenizers.Sequence([words, digits]) if split_digits else words
    normalizer = normalizers.Lowercase() if lowercase else normalizers.Sequence([])
    counts = Counter(
        piece for text in texts for piece, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    pieces = [piece for piece, count in counts.items() if count >= min_count]
    vocabulary = {
        piece: index for index, piece in enumerate(dict.fromkeys([PAD, BOS, EOS, UNKNOWN, *pieces]))
    }
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return _with_bos(tokenizer)


def _with_bos(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )
