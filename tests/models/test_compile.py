"""torch.compile takes an adapted model in one graph."""

import logging

import pytest
import torch

LEARNED = {"mode": "learned", "kappa": -0.7}
ARMS = [
    {"curvature": LEARNED},
    {"transform": "boost", "curvature": LEARNED},
    {"transform": "tangent"},
]


@pytest.fixture
def untraced(monkeypatch):
    """Keep dynamo's structured trace, a line per tensor, out of pytest's log capture: it doubles the time."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


@pytest.mark.slow
# Dynamo itself instantiates the autograd function that it traces.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_one_graph_with_the_same_outputs_and_gradients(adapted, shake, tokens, arm):
    torch._dynamo.reset()
    model = shake(adapted(**arm))
    model.config.use_cache = False
    plain = model(tokens, labels=tokens)
    plain.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    # aot_eager: dynamo's graph and autograd's, without a C++ compiler on the machine.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(tokens, labels=tokens)
    compiled.loss.backward()
    torch.testing.assert_close(compiled.logits, plain.logits, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-7)
