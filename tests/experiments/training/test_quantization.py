"""model.quantization: the linear layers of the base in 4 or 8 bits, trained on and answered with."""

import json
from pathlib import Path

import pytest
import torch

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.settings.run import ModelSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.experiments.training.base_model import load_model
from manifold_lora.models.tiny import tiny_model, word_tokenizer


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Whole blocks of 64 inputs, which bitsandbytes' kernels work in."""
    folder = tmp_path_factory.mktemp("wide")
    tokenizer = word_tokenizer(f"{item.prompt} {item.target}" for item in build_task("taxonomy").train)
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer), hidden_size=64, layers=1, heads=2, intermediate_size=64).save_pretrained(
        folder
    )
    return str(folder)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_the_layers_are_quantised_and_a_look_in_eval_mode_leaves_gradients(wide: str, bits: str) -> None:
    pytest.importorskip("bitsandbytes")
    model, _ = load_model(ModelSettings(quantization=bits), wide)
    layer = model.model.layers[0].self_attn.q_proj
    assert type(layer).__name__ == {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[bits]
    tokens = torch.arange(4)[None]
    with torch.no_grad():
        model.eval()(tokens)
    embedded = model.get_input_embeddings()(tokens).detach().requires_grad_()
    model.train()(inputs_embeds=embedded, labels=tokens).loss.backward()
    assert embedded.grad.abs().sum() > 0


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_train_and_evaluate_on_a_quantised_base(wide: str, bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    flags = {
        "--model": wide,
        "--model.quantization": bits,
        "--output": str(tmp_path / "run"),
        "--task.limit": "8",
        "--train.steps": "2",
        "--evaluation.max_new_tokens": "2",
    }
    assert main(["train", *(word for pair in flags.items() for word in pair)]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    again = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    outputs = [[item["output"] for item in record["items"]] for record in (result, again)]
    assert outputs[0] == outputs[1]
