"""What is kept of other text: the sum written out, the base under an adapter, texts no training row holds."""

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig

from manifold_lora import ManifoldLoraConfig
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.retention import (
    PLAIN,
    Retention,
    encode_documents,
    nats_a_token,
    unseen,
)
from manifold_lora.experiments.settings.run import EvaluationSettings, ModelSettings, RunSettings
from manifold_lora.experiments.tasks import Document, Example, build_task
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt

TASK = build_task("taxonomy", limit=20)


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer([*(one.text for one in TASK.pretraining_texts()), PLAIN.read_text()])


def adapted(tokenizer, config=None, size=0.3):
    config = config or ManifoldLoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = adapt(tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and size:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return model


def run(model="embedded", **evaluation):
    return RunSettings(model=ModelSettings(name=model), evaluation=EvaluationSettings(**evaluation))


def written_out(model, tokenizer, document):
    """The oracle: one text, every token behind its context, float64."""
    ids = tokenizer(document.text)["input_ids"]
    start = max(1, len(tokenizer(document.context)["input_ids"])) if document.context else 1
    with torch.no_grad():
        likely = model.eval()(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(float(likely[place - 1, ids[place]]) for place in range(start, len(ids))), len(ids) - start


def test_it_is_the_mean_over_tokens_written_out(tokenizer) -> None:
    documents = [
        Document("up a b c"),
        Document("one cold morning"),
        Document("is this it ? yes", "is this it ?"),
    ]
    model = adapted(tokenizer)
    rows = encode_documents(tokenizer, documents, 99)
    parts = [written_out(model, tokenizer, one) for one in documents]
    expected = sum(nll for nll, _ in parts) / sum(count for _, count in parts)
    for size in (1, 2, 64):
        assert nats_a_token(model, tokenizer, rows, size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        ManifoldLoraConfig(r=4, target_modules="all-linear", transform="boost", task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM"),
        PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    ],
    ids=lambda config: str(config.peft_type),
)
@pytest.mark.parametrize("model_name", ["embedded", "some/model"])
def test_the_base_under_the_adapter_is_measured_before(tokenizer, config, model_name) -> None:
    model, settings = adapted(tokenizer, config), run(model_name)
    kept = Retention.of_base(model, tokenizer, TASK, settings)
    base = tiny_model(len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=16)
    assert kept.before == pytest.approx(nats_a_token(base, tokenizer, kept.rows, 128), abs=1e-6)
    found = kept.record(model)
    assert found["forgetting"] == found["after"] - found["before"] != 0
    with model.disable_adapter():
        assert kept.record(model)["forgetting"] == 0.0
    assert found["text"] == ("pre-training text" if model_name == "embedded" else "plain.txt")
    assert found["tokens"] > (200 if model_name == "embedded" else 1000)


def test_an_untrained_lora_forgets_nothing(tokenizer) -> None:
    model = adapted(tokenizer, LoraConfig(r=4, target_modules="all-linear"), size=0.0)
    assert Retention.of_base(model, tokenizer, TASK, run()).record(model)["forgetting"] == 0.0


def test_what_a_training_row_holds_is_left_out() -> None:
    rows = [Example("a", "2 + 2 =", " 4", "4"), Example("b", "Name a fish:", " The  Cod", "cod")]
    texts = ["the cod", "and so: name a fish: the cod.", "2 + 2 = 4", "2 + 2 = 5", "A fish."]
    assert [one.text for one in unseen([Document(text) for text in texts], rows)] == ["2 + 2 = 5", "A fish."]
    prose = [Document(text) for text in PLAIN.read_text(encoding="utf-8").split("\n\n")]
    assert unseen(prose, TASK.train) == prose
    own = list(TASK.pretraining_texts())
    # The one word that the base's reading and the task have in common.
    assert [one.text for one in set(own) - set(unseen(own, TASK.train))] == ["lca"]


def test_a_file_is_read_by_paragraphs_and_what_cannot_be_read_is_refused(tokenizer, tmp_path) -> None:
    text, model = tmp_path / "mine.txt", adapted(tokenizer)
    text.write_text("one cold\nmorning\n\n\n\n  the gulls  \n\nx\n")
    kept = Retention.of_base(model, tokenizer, TASK, run(retention=str(text)))
    assert kept.record(model)["passages"] == 3
    assert Retention.of_base(model, tokenizer, TASK, run(retention="none")) is None
    row = TASK.train[0]
    for content in (b"", f"{row.prompt} {row.target}".encode(), b"\xff\xfe"):
        text.write_bytes(content)
        with pytest.raises(ManifoldLoraError, match=r"evaluation\.retention"):
            Retention.of_base(model, tokenizer, TASK, run(retention=str(text)))
