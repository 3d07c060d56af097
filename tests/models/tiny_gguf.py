"""A tiny Llama and a byte-level tokenizer as a GGUF file, in the format's own names."""

from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedModel

from manifold_lora.models.tiny import tiny_model

WORDS = ["N", "0", "1", "+", "-", "=", ">", "a", "b", "Ġ", "Ġa", "Ġb", "ab", "Ġab", "ĠN"]
MERGES = ["a b", "Ġ ab", "Ġ a", "Ġ b", "Ġ N"]
CHAT = "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}"
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def vocabulary() -> list[str]:
    """Padding, start and end, the unknown token that transformers adds, all bytes, and a few words."""
    special = ["<pad>", "<s>", "</s>", "<|endoftext|>"]
    return list(dict.fromkeys([*special, *sorted(ByteLevel.alphabet()), *WORDS]))


def write_gguf(path: Path, architecture: str = "llama", **numbers: float) -> PreTrainedModel:
    """Write the file and return the model that is in it; ``numbers`` replace some of its metadata."""
    tokens = vocabulary()
    model = tiny_model(len(tokens), hidden_size=32, layers=2, heads=2, intermediate_size=64, seed=5).eval()
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    writer.add_block_count(int(numbers.get("layers", config.num_hidden_layers)))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(numbers.get("rope_theta", config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, 3, *[1] * (len(tokens) - 4)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(CHAT)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_named(name), _stored(name, tensor, config.num_attention_heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _named(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, *middle, _ = name.split(".")
    return f"blk.{layer}.{_NAMES['.'.join(middle)]}.weight"


def _stored(name: str, tensor: torch.Tensor, heads: int) -> np.ndarray:
    """llama.cpp turns the rows of q and k so that the halves of a rotation lie beside each other."""
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        rows, width = tensor.shape
        tensor = tensor.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)
    return tensor.contiguous().float().numpy()
