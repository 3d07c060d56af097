"""A tiny Llama whose activations have the norms of SmolLM2's: what breaks a geometry there, in a second."""

import torch
from transformers import PreTrainedModel

from manifold_lora.models.tiny import tiny_model

BOS = 1
_INITIAL = 0.02  # the standard deviation that transformers starts weights from


def tiny_with_sink(vocabulary: int = 64, *, layers: int = 3, seed: int = 0, **shape: int) -> PreTrainedModel:
    """A model whose median |x|/sqrt(width) is SmolLM2's, and whose first token at one down_proj is near 80.

    The medians are 0.33 at q, k, v, 0.14 at gate and up, 0.19 at down, each within a third; RMSNorm weights
    lie between 0.14 and 17. The sink belongs to the token ``<s>`` (id 1), which `word_tokenizer` puts first;
    ids written by hand have to begin with it. The middle layer holds it, as layers.11 does in SmolLM2.

    Args:
        vocabulary, layers, seed, shape: those of `tiny_model`; three layers at least.
    """
    model = tiny_model(vocabulary, layers=layers, seed=seed, **shape)
    random = torch.Generator().manual_seed(seed)
    width = model.config.hidden_size
    with torch.no_grad():
        # Channel 0 is the sink's own: of all tokens, <s> alone has anything there.
        model.model.embed_tokens.weight[:, 0] = 0.0
        model.model.embed_tokens.weight[BOS, 0] = 2.0
        for place, layer in enumerate(model.model.layers):
            layer.self_attn.v_proj.weight.mul_(1 / (0.33 * _INITIAL * width**0.5))
            layer.self_attn.v_proj.weight[:, 0] = 0.0  # so that attention does not hand it on
            for module, level in ((layer.input_layernorm, 0.33), (layer.post_attention_layernorm, 0.14)):
                module.weight.copy_(level * (1 + 0.3 * (torch.rand(width, generator=random) - 0.5)))
                module.weight[0] = 0.14
            for module in (layer.mlp.gate_proj, layer.mlp.up_proj):
                module.weight.mul_(0.6 / (0.14 * _INITIAL * width**0.5))
                module.weight[:, 0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
            layer.self_attn.o_proj.weight[0] = 0.0
            if place == layers // 2:
                layer.post_attention_layernorm.weight[0] = 17.0
                for module in (layer.mlp.gate_proj, layer.mlp.up_proj):
                    module.weight[:, 0] = (80.0**0.5) / (17.0 * width**0.5)
        model.model.norm.weight[0] = 0.14
    return model
