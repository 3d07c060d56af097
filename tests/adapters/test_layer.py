import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.adapters.layer import ManifoldLoRA
from manifold_lora.adapters.spec import HYPLORA
from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.lorentz import Lorentz


@settings(max_examples=20)
@given(alpha=st.floats(0.1, 64), rank=st.integers(1, 6))
def test_the_update_is_scaled_by_alpha_over_rank(alpha, rank):
    torch.manual_seed(0)
    layer = ManifoldLoRA(8, 6, rank, alpha=alpha)
    torch.nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 8)
    bare = layer.update(x, layer.lora_A, layer.lora_B)
    torch.testing.assert_close(layer(x), layer.base(x) + alpha / rank * bare, rtol=1e-4, atol=1e-5)


def test_only_the_adapter_trains():
    layer = ManifoldLoRA(
        8, 6, 4, manifold={"name": "lorentz", "curvature": {"mode": "learned", "kappa": -1.0}}
    )
    trained = {name for name, parameter in layer.named_parameters() if parameter.requires_grad}
    geometry = {"update.manifold.curvature.raw", "update.norm_scaling.log_scale"}
    assert trained == {"lora_A", "lora_B"} | geometry


def test_a_given_layer_is_adapted_where_it_stands():
    base = torch.nn.Linear(8, 6, dtype=torch.float64)
    layer = ManifoldLoRA(8, 6, 4, base=base)
    assert layer.base is base
    assert layer.lora_A.dtype == torch.float64


def test_a_geometry_can_be_shared():
    shared = Lorentz(-0.5)
    layers = [ManifoldLoRA(8, 6, 4, manifold=shared) for _ in range(2)]
    assert layers[0].update.manifold is layers[1].update.manifold


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"rank": 0}, "rank: got 0"),
        ({"alpha": 0}, "alpha: got 0"),
        ({"alpha": float("nan")}, "alpha: got nan"),
        ({"base": torch.nn.Linear(6, 8)}, "base layer: got '6 -> 8'; allowed: 8 -> 6"),
        ({"manifold": "poincare", "transform": "boost"}, "allowed: direct, norm_blind, power, tangent"),
        ({"manifold": {"name": "lorentz", "curvature": 1.0}}, "kappa of lorentz"),
    ],
)
def test_what_does_not_fit_is_refused(keywords, message):
    with pytest.raises(ManifoldLoraError, match=message):
        ManifoldLoRA(8, 6, keywords.pop("rank", 4), **keywords)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'direct'"):
        ManifoldLoRA(8, 6, 4, manifold=Lorentz(), transform="driect")


def test_an_input_of_another_width_is_refused():
    with pytest.raises(ManifoldLoraError, match="last axis of the input: got 7; allowed: 8"):
        ManifoldLoRA(8, 6, 4)(torch.zeros(2, 7))


def test_it_learns_what_no_matrix_can():
    torch.manual_seed(0)
    layer = ManifoldLoRA.from_spec(HYPLORA.with_(norm_scaling="identity"), 4, 4, 4, bias=False)
    x = 2 * torch.randn(256, 4)
    with torch.no_grad():
        target = layer.base(x) + layer.update(x, torch.randn(4, 4), torch.randn(4, 4))
    best_matrix = (x @ torch.linalg.lstsq(x, target).solution - target).square().mean()
    optimizer = torch.optim.Adam([layer.lora_A, layer.lora_B], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < best_matrix / 3


def test_peft_spellings_curvature_and_the_sizes_of_a_base():
    base = torch.nn.Linear(8, 6)
    ours = ManifoldLoRA(base=base, r=4, lora_alpha=16, curvature={"mode": "learned", "kappa": -0.25})
    assert (ours.scaling, ours.lora_A.shape, ours.lora_B.shape) == (4.0, (4, 8), (6, 4))
    assert ours.update.manifold.curvature.stated == -0.25
    assert ours.update.manifold.curvature.mode == "learned"
    same = ManifoldLoRA(8, 6, 4, alpha=16, r=4, manifold={"name": "lorentz", "curvature": -0.25})
    assert same.scaling == ours.scaling
    assert ManifoldLoRA(8, 6, 4, transform={"name": "power", "p": 0.5}).update.transform.p == 0.5


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"rank": 4, "r": 8}, "rank and r: got '4 and 8'; allowed: one of the two"),
        ({"rank": 4, "alpha": 1.0, "lora_alpha": 2.0}, "alpha and lora_alpha"),
        ({}, "rank: got None"),
        ({"rank": 4, "out_features": None}, "out_features: got None; allowed: a size, or base="),
        ({"rank": 4, "manifold": Lorentz(-0.5), "curvature": -1.0}, "none beside a Manifold"),
    ],
    ids=str,
)
def test_spellings_that_disagree_or_lack_are_refused(keywords, message):
    with pytest.raises(ManifoldLoraError, match=message):
        ManifoldLoRA(**({"in_features": 8, "out_features": 6} | keywords))
