"""The evaluation harness on an adapter of ours: found by name, and its likelihoods are the model's own."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval", reason="the extra lm_eval is not installed")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.commands.lm_eval_model import NAME, ManifoldLora
from manifold_lora.experiments.methods.config import peft_config
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.models.load import load_adapter, load_base
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter that says something else than its base."""
    folder = tmp_path_factory.mktemp("harness")
    tokenizer = word_tokenizer(["one and two are three or four"])
    tokenizer.save_pretrained(folder / "base")
    tiny_model(len(tokenizer), hidden_size=32).save_pretrained(folder / "base")
    base, _ = load_base(str(folder / "base"))
    model = adapt(base, peft_config(AdapterSettings(rank=2), {}, None))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    save_adapter(model, folder / "adapter", tokenizer)
    return folder


def test_the_likelihoods_are_those_of_the_adapted_model(folder: Path) -> None:
    assert get_model(NAME) is ManifoldLora
    harness = ManifoldLora(adapter=str(folder / "adapter"), device="cpu", batch_size=2)
    pairs = [("one and two", " are"), ("one", " or four"), ("three or", " four")]
    asked = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    base, tokenizer = load_base(str(folder / "base"))
    model = load_adapter(folder / "adapter", base).eval()
    for (context, continuation), (found, _) in zip(pairs, harness.loglikelihood(asked), strict=True):
        start = len(tokenizer(context)["input_ids"])
        ids = torch.tensor([tokenizer(context + continuation)["input_ids"]])
        with torch.no_grad():
            logs = model(ids).logits.log_softmax(-1)[0, start - 1 : -1]
        assert found == pytest.approx(logs.gather(1, ids[0, start:, None]).sum().item(), abs=1e-4)


def test_a_task_of_the_harness_runs_on_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"q": "one and two are", "a": "three"}, {"q": "one", "a": "or"}]')
    task = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.json")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "doc_to_choice": ["three", "or", "four"],
        "metric_list": [{"metric": "acc"}],
    }
    arguments = {"adapter": str(folder / "adapter"), "pretrained": str(folder / "base"), "device": "cpu"}
    found = simple_evaluate(
        model=NAME, model_args=arguments, tasks=[task], bootstrap_iters=0, verbosity="ERROR"
    )
    assert found["results"]["tiny"]["acc,none"] in (0.0, 0.5, 1.0)


def test_a_broken_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifoldLoraError):
        ManifoldLora(adapter=str(tmp_path), device="cpu")
