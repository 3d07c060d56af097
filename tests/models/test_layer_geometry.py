"""Geometries by layer, a curvature that layers share, one of each token: in a model, a file and training."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel, get_peft_model

from manifold_lora.errors import CurvatureError, ManifoldLoraError, UnknownNameError
from manifold_lora.models.geometry_log import effective_kappa, token_gates
from manifold_lora.models.load import load_adapter
from manifold_lora.models.optim import parameter_groups
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.config import ManifoldLoraConfig

MAP = {r"layers\.0\..*": {"name": "sphere", "curvature": 0.5}, "v_proj": "lorentz", ".*": "euclidean"}
SHARED = {"mode": "learned", "kappa": -0.7, "shared": True}
TOKEN = {"mode": "token", "kappa": -0.7}


def geometries(model):
    found = {}
    for name, module in model.get_base_model().named_modules():
        if "default" in getattr(module, "lora_manifold", {}):
            update = module.lora_manifold["default"]
            found[name.removeprefix("model.")] = (
                type(update.manifold).__name__,
                float(update.manifold.kappa.detach()),
            )
    return found


def test_the_first_pattern_that_matches_gives_the_geometry(adapted):
    assert geometries(adapted(manifold_pattern=MAP)) == {
        "layers.0.self_attn.q_proj": ("Sphere", 0.5),
        "layers.0.self_attn.v_proj": ("Sphere", 0.5),
        "layers.1.self_attn.q_proj": ("Euclidean", 0.0),
        "layers.1.self_attn.v_proj": ("Lorentz", -1.0),
    }


def test_layers_without_a_pattern_keep_the_geometry_of_the_config(adapted):
    model = adapted(curvature=-0.3, manifold_pattern={"q_proj": "poincare"})
    kinds = {name.rpartition(".")[2]: kind for name, (kind, _) in geometries(model).items()}
    assert kinds == {"q_proj": "Poincare", "v_proj": "Lorentz"}


@pytest.mark.parametrize(
    "options",
    [
        {"manifold_pattern": MAP},
        {"curvature": SHARED},
        {"curvature": TOKEN},
        {"manifold": "sphere", "transform": "boost", "curvature": {"mode": "token"}},
        {"token_norms": "shuffled"},
        {"manifold_pattern": {"q_proj": {"name": "sphere", "curvature": {**SHARED, "kappa": 0.2}}}},
    ],
    ids=str,
)
def test_a_reload_is_bit_identical(adapted, base, shake, tokens, tmp_path, options):
    model = shake(adapted(**options)).eval()
    folder = save_adapter(model, tmp_path / "adapter")
    for again in (
        PeftModel.from_pretrained(base(), folder),
        PeftModel.from_pretrained(base(), folder, low_cpu_mem_usage=True),
        AutoPeftModelForCausalLM.from_pretrained(folder),
        load_adapter(folder),
    ):
        assert geometries(again) == geometries(model)
        assert effective_kappa(again) == effective_kappa(model)
        assert token_gates(again) == token_gates(model)
        assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)


ORDERED = {"v_proj": 1, ".*": 2}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("manifold_pattern", MAP),
        ("curvature_pattern", {"v_proj": -1.0, ".*": -2.0}),
        ("rank_pattern", ORDERED),
        ("alpha_pattern", ORDERED),
    ],
)
def test_patterns_keep_their_order_though_the_file_sorts_its_keys(adapted, base, tmp_path, name, pattern):
    model = adapted(**{name: pattern})
    again = load_adapter(save_adapter(model, tmp_path / "adapter"), base())
    assert list(getattr(again.peft_config["default"], name)) == list(pattern)
    assert effective_kappa(again) == effective_kappa(model)
    assert [m.scaling for m in again.modules() if hasattr(m, "scaling") and hasattr(m, "lora_A")] == [
        m.scaling for m in model.modules() if hasattr(m, "scaling") and hasattr(m, "lora_A")
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"manifold_pattern": {"q_proj": "lorenz"}}, UnknownNameError, "did you mean 'lorentz'"),
        ({"manifold_pattern": {"q_proj": -1.0}}, ManifoldLoraError, "a name, or a mapping"),
        ({"manifold_pattern": ["lorentz"]}, ManifoldLoraError, "a mapping, or a list"),
        ({"manifold_pattern": {"q_proj(": "lorentz"}}, ManifoldLoraError, "regular expressions"),
        (
            {"manifold_pattern": {"q_proj": {"name": "sphere", "curvature": -1.0}}},
            CurvatureError,
            "positive",
        ),
        (
            {"transform": "boost", "manifold_pattern": {"q": "poincare"}},
            ManifoldLoraError,
            "direct, norm_blind",
        ),
        (
            {"manifold_pattern": {"q_proj": "sphere"}, "curvature_pattern": {"v_proj": -2.0}},
            ManifoldLoraError,
            "one of the two",
        ),
        ({"curvature": SHARED, "curvature_pattern": {"v_proj": -2.0}}, ManifoldLoraError, "one number"),
        ({"curvature": {**SHARED, "mode": "fixed"}}, CurvatureError, "learned or free"),
        ({"manifold": "euclidean", "curvature": {"mode": "token"}}, CurvatureError, "got 'euclidean'"),
        ({"token_norms": "shuffle"}, UnknownNameError, "did you mean 'shuffled'"),
    ],
    ids=str,
)
def test_bad_entries_are_refused_at_construction(options, error, message):
    with pytest.raises(error, match=message):
        ManifoldLoraConfig(**options)


def test_a_pattern_that_matches_nothing_names_the_nearest(base):
    config = ManifoldLoraConfig(target_modules=["q_proj", "v_proj"], manifold_pattern={"q_porj": "sphere"})
    model = base()
    before = [name for name, _ in model.named_modules()]
    with pytest.raises(UnknownNameError, match=r"manifold_pattern: got 'q_porj'.*did you mean 'q_proj'"):
        get_peft_model(model, config)
    assert [name for name, _ in model.named_modules()] == before


def curvatures(model):
    return [(n, p) for n, p in model.named_parameters() if "curvature" in n]


def test_a_shared_curvature_is_one_parameter_in_every_layer(adapted, tokens):
    model = adapted(curvature=SHARED, norm_scaling="fixed")
    ((_, raw),) = curvatures(model)
    assert len(effective_kappa(model)) == 4
    (group,) = [g for g in parameter_groups(model, 1e-2, geometry_lr_factor=0.1) if g["name"] == "geometry"]
    assert [id(p) for p in group["params"]] == [id(raw)]
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    model(tokens, labels=tokens).loss.backward()
    total = raw.grad.clone()
    assert total.abs() > 0
    # The gradient of the shared number is the sum of those that layers of their own would have.
    torch.manual_seed(0)
    alone = adapted(curvature={"mode": "learned", "kappa": -0.7}, norm_scaling="fixed")
    own = {n: p for n, p in model.state_dict().items() if "curvature" not in n}
    alone.load_state_dict(own, strict=False)
    alone(tokens, labels=tokens).loss.backward()
    torch.testing.assert_close(sum(p.grad for _, p in curvatures(alone)), total, rtol=1e-4, atol=1e-7)


def test_a_shared_curvature_is_saved_with_every_layer_and_equal(adapted, base, tmp_path):
    from safetensors.torch import load_file

    model = adapted(curvature=SHARED)
    curvatures(model)[0][1].data.fill_(0.25)
    model.save_pretrained(tmp_path)
    saved = {k: v for k, v in load_file(tmp_path / "adapter_model.safetensors").items() if "curvature" in k}
    assert len(saved) == 4
    assert all(tensor.item() == 0.25 for tensor in saved.values())
    for options in ({}, {"low_cpu_mem_usage": True}):
        again = PeftModel.from_pretrained(base(), tmp_path, is_trainable=True, **options)
        assert len(curvatures(again)) == 1
        assert list(effective_kappa(again).values()) == pytest.approx([-0.7 * 2.718281828**0.25] * 4)


def test_adapters_do_not_share_with_each_other(adapted, tokens):
    model = adapted(curvature=SHARED)
    model.add_adapter("second", ManifoldLoraConfig(r=2, target_modules=["q_proj"], curvature=SHARED))
    assert len(curvatures(model)) == 2
    model.set_adapter("second")
    assert [n.count(".second.") for n, p in curvatures(model) if p.requires_grad] == [1]
    model.delete_adapter("default")
    assert len(curvatures(model)) == 1
    assert torch.isfinite(model(tokens).logits).all()


def test_layers_that_map_to_one_geometry_share_its_curvature(adapted):
    shared = {"name": "sphere", "curvature": {**SHARED, "kappa": 0.2}}
    model = adapted(curvature=SHARED, manifold_pattern={"v_proj": shared})
    assert len(curvatures(model)) == 2
    assert sorted(set(effective_kappa(model).values())) == pytest.approx([-0.7, 0.2])


def test_gates_of_tokens_train_without_decay_and_are_listed(adapted, shake, tokens):
    model = shake(adapted(curvature=TOKEN, norm_scaling="fixed"))
    model(tokens, labels=tokens).loss.backward()
    gates = {n: p for n, p in model.named_parameters() if "token_scale" in n}
    assert len(gates) == 8
    assert all(p.grad.abs() > 0 and p.dtype == torch.float32 for p in gates.values())
    (group,) = [g for g in parameter_groups(model, 1e-2, weight_decay=0.1) if g["name"] == "geometry"]
    assert {id(p) for p in group["params"]} == {id(p) for p in gates.values()}
    assert group["weight_decay"] == 0.0
    assert len(token_gates(model)) == len(effective_kappa(model)) == 4
    assert list(effective_kappa(model).values()) == pytest.approx([-0.7] * 4)


def test_token_curvature_at_the_start_is_the_fixed_arm(adapted, tokens):
    def logits(curvature):
        torch.manual_seed(0)
        model = adapted(curvature=curvature)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        return model.eval()(tokens).logits

    torch.testing.assert_close(logits(TOKEN), logits(-0.7), rtol=1e-5, atol=1e-6)
