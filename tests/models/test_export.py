"""Export to LoRA: closed forms against least squares, stated errors against measured, files in plain peft."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, convert_to_lora, get_peft_model, save_as_lora
from safetensors.torch import load_file, save_file

from manifold_lora.errors import LinearOnlyError, ManifoldLoraError
from manifold_lora.models.export import export_lora, fit_layers, linearised, logits_error
from manifold_lora.models.linear_fit import Moments, fit_linear
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.token_inputs import manifold_layers

EXACT = {
    "euclidean": {"manifold": "euclidean", "norm_scaling": "identity"},
    "tangent": {"transform": "tangent", "norm_scaling": "released"},
}
CURVED = {
    "direct": {"transform": "direct"},
    "boost": {"transform": "boost"},
    "sphere": {"manifold": "sphere", "curvature": 0.3},
    "token": {"curvature": {"mode": "token", "kappa": -2.0}},
    "unit": {"norm_scaling": "unit"},
}


def batches(seed, count=3):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        ids = torch.randint(4, 64, (8, 12), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 9:] = 0
        found.append({"input_ids": ids, "attention_mask": mask})
    return found


@pytest.fixture
def trained(adapted, shake):
    """``trained(**options)``: an adapter so far from its start that no linear map is equal."""
    return lambda family="llama", **options: shake(adapted(family, **options), scale=0.5).eval()


def tokens_of(seed, c, n=6, m=5, r=2, count=40):
    generator = torch.Generator().manual_seed(seed)
    x, down, up = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((count, n), (r, n), (m, r))
    )
    u = x @ down.T
    gains = 1 + c * x.square().sum(-1, keepdim=True)
    return x, u, gains, down, up


def moments(x, u, d):
    found = Moments()
    for rows in torch.arange(len(x)).split(7):
        found.add(x[rows], u[rows], d[rows])
    return found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), c=st.floats(0.01, 1.0))
def test_the_candidates_are_the_least_squares_solutions(seed, c):
    x, u, gains, down, up = tokens_of(seed, c)
    d = gains * (u @ up.T) + 0.1 * c * x[:, :5].square()
    seen = moments(x, u, d)
    fit = fit_linear(seen, seen, down, up)
    plain = u @ up.T
    gamma = (d * plain).sum() / plain.square().sum()
    matrix = torch.linalg.lstsq(u, d).solution
    ols = x @ torch.linalg.lstsq(x, d).solution
    right = torch.linalg.svd(ols, full_matrices=False).Vh[:2]
    for name, fitted in (("gain", gamma * plain), ("matrix", u @ matrix), ("full", ols @ right.T @ right)):
        expected = ((d - fitted).square().sum() / d.square().sum()).sqrt()
        assert fit.errors[name] == pytest.approx(float(expected), rel=1e-6), name
    assert fit.gain == pytest.approx(float(gamma))
    assert fit.errors["full"] <= fit.errors["matrix"] + 1e-9
    assert fit.errors["matrix"] <= fit.errors["gain"] + 1e-9
    stated = (d - x @ fit.down.T @ fit.up.T).square().sum() / d.square().sum()
    assert fit.error == pytest.approx(float(stated.sqrt()), rel=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), c=st.floats(0.01, 1.0))
def test_the_scalar_is_the_mean_gain_weighted_by_the_size_of_the_update(seed, c):
    x, u, gains, down, up = tokens_of(seed, c)
    plain = u @ up.T
    fit = fit_linear(moments(x, u, gains * plain), moments(x, u, gains * plain), down, up)
    size = plain.square().sum(-1, keepdim=True)
    assert fit.gain == pytest.approx(float((gains * size).sum() / size.sum()))


def test_the_choice_is_made_on_tokens_that_were_not_fitted_to():
    """With fewer tokens than directions the freest map fits all of them, and nothing else."""
    x, u, gains, down, up = tokens_of(0, 0.05, n=30, count=25)
    others = tokens_of(1, 0.05, n=30, count=400)[0]
    there = others @ down.T
    apart = (1 + 0.05 * others.square().sum(-1, keepdim=True)) * (there @ up.T)
    seen, held_out = moments(x, u, gains * (u @ up.T)), moments(others, there, apart)
    fit = fit_linear(seen, held_out, down, up)
    assert fit.errors["full"] > 2 * fit.errors["gain"]
    assert fit.name != "full"


def test_no_update_is_exported_as_none(adapted):
    fits = fit_layers(adapted().eval(), batches(1), batches(2))
    assert all(fit.error == 0.0 and (fit.up == 0).all() for fit in fits.values())


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_a_linear_arm_is_exported_exactly(trained, tokens, options):
    model = trained(**options)
    fits = fit_layers(model, batches(1), batches(2))
    assert {fit.name for fit in fits.values()} == {"exact"}
    expected = model(tokens).logits
    with linearised(model, fits):
        torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-6, atol=1e-6)
    assert logits_error(model, fits, batches(3)) == (pytest.approx(0.0, abs=1e-6), 1.0)


@pytest.mark.parametrize("options", CURVED.values(), ids=CURVED)
def test_the_stated_error_is_the_one_measured_layer_by_layer(trained, options):
    model = trained(**options)
    held_out = batches(2)
    fits = fit_layers(model, batches(1), held_out)
    seen = {name: [] for name in fits}
    hooks = [
        layer.register_forward_hook(lambda m, i, o, name=name: seen[name].append((i[0], o)))
        for name, layer in manifold_layers(model)
    ]
    masks = [batch["attention_mask"].bool() for batch in held_out]
    with torch.no_grad():
        for batch in held_out:
            model(**batch)
    for hook in hooks:
        hook.remove()
    with linearised(model, fits), torch.no_grad():
        for name, layer in model.get_base_model().named_modules():
            if name not in fits:
                continue
            wrong = size = 0.0
            for (x, y), mask in zip(seen[name], masks, strict=True):
                size += (y - layer.base_layer(x))[mask].double().square().sum()
                wrong += (y - layer(x))[mask].double().square().sum()
            assert fits[name].error == pytest.approx(float((wrong / size).sqrt()), rel=1e-3), name
            assert fits[name].error > 1e-3


def test_a_model_is_left_as_it_was(trained, tokens):
    model = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(tokens).logits
    fits = fit_layers(model, batches(1), batches(2))
    with linearised(model, fits):
        assert not torch.equal(model(tokens).logits, expected)
    assert torch.equal(model(tokens).logits, expected)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(LinearOnlyError):
        model.merge_and_unload()


PLAIN_PEFT = """
import json, sys, torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
jobs = json.loads(sys.argv[1])
for base, folder, out in jobs:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    assert type(model.base_model).__name__ == "LoraModel"
    ids = load_file(out)["ids"]
    with torch.no_grad():
        logits = model(ids).logits
        merged = model.merge_and_unload()(ids).logits
    save_file({"logits": logits, "merged": merged}, out)
assert not any(name.startswith("manifold_lora") for name in sys.modules), "ours was imported"
"""


def test_plain_peft_loads_what_was_written(trained, model_folder, tokens, tmp_path):
    """In a process that never imports this package; merging is allowed there, for it is a LoRA."""
    arms = {
        "euclidean": ("llama", EXACT["euclidean"]),
        "tangent": ("gpt2", {**EXACT["tangent"], "use_rslora": True}),
        "direct": ("llama", {"alpha_pattern": {"v_proj": 3, ".*": 5}, "rank_pattern": {"layers.1.*": 2}}),
        "boost": ("llama", {"transform": "boost", "modules_to_save": ["lm_head"]}),
    }
    jobs, expected = [], {}
    for name, (family, options) in arms.items():
        model = trained(family, **options)
        fits = fit_layers(model, batches(1), batches(2))
        folder = export_lora(model, fits, tmp_path / name, card="# exported\n")
        assert (folder / "README.md").read_text() == "# exported\n"
        assert not any("manifold" in key for key in load_file(folder / "adapter_model.safetensors"))
        with linearised(model, fits), torch.no_grad():
            expected[name] = model(tokens).logits
        save_file({"ids": tokens}, tmp_path / f"{name}.safetensors")
        jobs.append([str(model_folder(family)), str(folder), str(tmp_path / f"{name}.safetensors")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN_PEFT, json.dumps(jobs)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, logits in expected.items():
        found = load_file(tmp_path / f"{name}.safetensors")
        torch.testing.assert_close(found["logits"], logits, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found["merged"], logits, rtol=1e-4, atol=1e-5)


def test_only_one_manifold_adapter_is_exported(base, trained, tmp_path):
    plain = get_peft_model(base(), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ManifoldLoraError, match=r"adapter to export.*LORA.*MANIFOLD_LORA"):
        export_lora(plain, {}, tmp_path / "out")
    with pytest.raises(ManifoldLoraError, match="active manifold adapter"):
        fit_layers(plain, batches(1), batches(2))
    two = trained()
    two.add_adapter("second", ManifoldLoraConfig(target_modules=["q_proj"]))
    two.base_model.set_adapter(["default", "second"])
    with pytest.raises(ManifoldLoraError, match=r"default.*second"):
        export_lora(two, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert isinstance(two, PeftModel)


@pytest.mark.parametrize("way", ["convert_to_lora", "save_as_lora"])
def test_peft_s_own_conversion_names_our_export_for_curved_adapters(adapted, shake, tmp_path, way):
    model = shake(adapted(transform="direct"))
    assert not model.supports_lora_conversion()
    call = {"convert_to_lora": lambda: convert_to_lora(model, rank=4)}
    call["save_as_lora"] = lambda: save_as_lora(tmp_path / "lora", model, rank=4)
    with pytest.raises(LinearOnlyError, match=r"convert_to_lora.*export_lora\(model, fit_layers"):
        call[way]()
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("scaling", ["identity", "learned"])
def test_peft_s_own_conversion_of_a_linear_adapter_is_exact(adapted, base, shake, tokens, tmp_path, scaling):
    model = shake(adapted(transform="tangent", norm_scaling=scaling)).eval()
    assert model.supports_lora_conversion()
    save_as_lora(tmp_path / "lora", model, rank=4)
    again = PeftModel.from_pretrained(base(), tmp_path / "lora").eval()
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)
