"""The model card: what an adapter is, read from the model and kept in the README.md that peft writes."""

import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model

from manifold_lora.models.geometry_log import effective_kappa, effective_scale
from manifold_lora.models.notice import REGISTERS
from manifold_lora.models.saved.card import model_card, write_model_card
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig


def table(card):
    lines = [line for line in card.splitlines() if line.startswith("| `")]
    return {
        cells[0].strip("`"): cells[1:]
        for cells in ([c.strip() for c in line[1:-1].split("|")] for line in lines)
    }


def test_every_layer_is_listed_with_the_curvature_in_effect(adapted):
    model = adapted(curvature={"mode": "learned", "kappa": -0.7}, rank_pattern={"v_proj": 2})
    for place, (name, parameter) in enumerate(model.named_parameters()):
        if "curvature" in name or "log_scale" in name:
            parameter.data.fill_(0.01 * place)
    gains = {"model.layers.0.self_attn.q_proj": 1.25}
    card = model_card(model, gains=gains)
    rows = table(card)
    assert len(rows) == 4
    kappas = {
        name.removesuffix(".default.manifold.curvature"): k for name, k in effective_kappa(model).items()
    }
    scales = {name.removesuffix(".default.norm_scaling"): s for name, s in effective_scale(model).items()}
    for name, (geometry, kappa, scale, gate, rank, gain) in rows.items():
        assert (geometry, gate) == ("lorentz", "")
        assert float(kappa) == pytest.approx(kappas[name], rel=1e-5)
        assert float(scale) == pytest.approx(scales[name], rel=1e-5)
        assert rank == ("2" if "v_proj" in name else "4")
        assert gain == ("1.25" if name in gains else "")
    assert "kappa/s^2" in card
    assert "transform: direct" in card
    assert "norm scaling: learned" in card
    assert "llama" in card  # the base model's folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"manifold_pattern": {"q_proj": "sphere"}}, "geometry: by layer"),
        ({"curvature": {"mode": "token"}}, "kappa exp(gate h) for each token"),
        ({"curvature": {"mode": "learned", "shared": True}}, "learned, one for all layers"),
        ({"token_norms": "shuffled"}, "a control"),
        (
            {
                "manifold": {
                    "name": "product",
                    "parts": [{"share": 3, "name": "lorentz"}, {"share": 1, "name": "sphere"}],
                }
            },
            "lorentz (75%) x sphere (25%) | -1, 1",
        ),
        ({"norm_scaling": "unit"}, "v = s x/|x|"),
        ({"norm_scaling": "identity"}, "| -1 | 1 |"),
    ],
    ids=str,
)
def test_the_kinds_of_geometry_are_reported(adapted, options, message):
    assert message in model_card(adapted(**options))


def run(code):
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_the_line_of_the_card_lets_peft_read_the_folder(adapted, tmp_path):
    """Without it peft knows no such method; the card says so before all else."""
    folder = save_adapter(adapted(), tmp_path / "adapter")
    load = f"from peft import AutoPeftModelForCausalLM as A; A.from_pretrained({str(folder)!r})"
    assert "KeyError: 'MANIFOLD_LORA'" in run(load).stderr
    done = run(f"{REGISTERS}; {load}")
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize(
    ("save", "method"),
    [
        ("peft", ManifoldLoraConfig),
        ("peft", BottleneckConfig),
        ("save_adapter", ManifoldLoraConfig),
        ("save_adapter", BottleneckConfig),
        ("transformers", ManifoldLoraConfig),
    ],
)
def test_our_text_is_the_first_and_says_what_to_install(base, tmp_path, save, method):
    config = method(target_modules=["down_proj"])
    if save == "transformers":
        model = base()
        model.add_adapter(config)
        model.save_pretrained(tmp_path)
    elif save == "peft":
        get_peft_model(base(), config).save_pretrained(tmp_path)
    else:
        save_adapter(get_peft_model(base(), config), tmp_path / "adapter")
    card = ModelCard.load(next(tmp_path.rglob("README.md")))
    first = card.text.strip().splitlines()
    assert first[1].startswith("# Manifold adapter")
    head = "\n".join(first[:20])
    assert "`pip install manifold-lora`" in head
    assert REGISTERS in head
    assert card.data.library_name == "manifold-lora"
    assert {"manifold-lora", "peft"} <= set(card.data.tags)


def test_the_card_stands_before_what_peft_wrote_and_replaces_itself(adapted, tmp_path):
    model = adapted()
    model.save_pretrained(tmp_path)
    short = (tmp_path / "README.md").read_text()
    write_model_card(tmp_path, model_card(model))
    write_model_card(tmp_path, model_card(model, gains={"model.layers.0.self_attn.q_proj": 3.5}))
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\n")  # the front matter that the hub reads
    assert text.endswith(short.partition("<!-- manifold-lora: end -->")[2])
    assert text.count("# Manifold adapter") == 1
    assert "| 3.5 |" in text
    model.save_pretrained(tmp_path)  # peft updates its part and leaves ours
    again = (tmp_path / "README.md").read_text()
    assert again == text


def test_every_saved_adapter_has_its_own_card(adapted, tmp_path):
    model = adapted(curvature=-0.25)
    model.add_adapter("round", ManifoldLoraConfig(r=2, target_modules=["q_proj"], manifold="sphere"))
    folder = save_adapter(model, tmp_path / "adapter")
    first, second = (table((folder / name / "README.md").read_text()) for name in (".", "round"))
    assert {tuple(row[:2]) for row in first.values()} == {("lorentz", "-0.25")}
    assert {tuple(row[:2]) for row in second.values()} == {("sphere", "1")}


def test_other_methods_have_no_card_of_ours(base, tmp_path):
    model = get_peft_model(base(), LoraConfig(target_modules=["q_proj"]))
    assert model_card(model) == ""
    write_model_card(tmp_path, "")
    assert not (tmp_path / "README.md").exists()
