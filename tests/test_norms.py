"""The tiny model that stands for SmolLM2 has its norms: small everywhere, and one token that is huge."""

import pytest
import torch

SHAPES = [
    {},
    {"hidden_size": 32, "heads": 2, "intermediate_size": 64},
    {"hidden_size": 96, "intermediate_size": 192, "layers": 4},
]


def norms(model, ids):
    """Module -> |x|/sqrt(width) of each token at its input."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if name.endswith("_proj"):

            def look(module, arguments, name=name):
                (x,) = arguments
                seen[name] = x[0].norm(dim=-1) / x.shape[-1] ** 0.5

            handles.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_medians_and_the_sink_are_those_of_smollm2(tiny_with_sink, shape, seed):
    model = tiny_with_sink(**shape, seed=seed)
    ids = torch.tensor([[1, *torch.arange(4, 64).tolist()]])
    seen = norms(model, ids)
    for ending, median in (("q_proj", 0.33), ("up_proj", 0.14), ("down_proj", 0.19)):
        for name, tokens in seen.items():
            if name.endswith(ending):
                assert tokens[1:].median() == pytest.approx(median, rel=1 / 3), name
                assert tokens[1:].max() < 0.6, name
    sinks = [name for name, tokens in seen.items() if name.endswith("down_proj") and tokens[0] > 60]
    assert sinks == [f"model.layers.{model.config.num_hidden_layers // 2}.mlp.down_proj"]
    assert float(seen[sinks[0]][0]) == pytest.approx(80, rel=0.15)


def test_it_has_the_rms_norm_weights_and_a_finite_loss(tiny_with_sink):
    model = tiny_with_sink()
    weights = torch.cat([p.detach() for name, p in model.named_parameters() if "layernorm" in name])
    assert float(weights.min()) < 0.15
    assert float(weights.max()) == 17.0
    ids = torch.tensor([[1, *range(4, 20)]])
    assert 3 < model(input_ids=ids, labels=ids).loss.item() < 6
