"""A vision transformer and a small LLaVA through PEFT: adapters train, come back, merge where linear.

Scikit-learn's digits have a hierarchy: odd and even, and the digits below. The transformer's base knows the
digits and its adapter learns their parity; the LLaVA sees two digits and is asked for the tens or the parity.
"""

from typing import NamedTuple

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from manifold_lora import ManifoldLoraConfig, calibrate, create_optimizer, load_adapter, save_adapter
from manifold_lora.errors import LinearOnlyError
from manifold_lora.models.export import export_lora, fit_layers
from manifold_lora.models.liveness import watch_layers

# Pixels of a digit, in patches of two by two.
_SIDE, _PATCH = 8, 2
BOS, IMAGE, TENS, ONES, PARITY, ODD, EVEN, DIGIT = 1, 3, 4, 5, 6, 7, 8, 9
ARMS = {
    "flat": {"manifold": "euclidean", "norm_scaling": "identity"},
    "tangent": {"transform": "tangent"},
    "direct": {"transform": "direct"},
    "boost": {"transform": "boost"},
}
LINEAR = ("flat", "tangent")


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) in -0.5 .. 0.5 and what they show."""

    images: Tensor
    values: Tensor

    def part(self, places: slice) -> "Digits":
        return Digits(self.images[places], self.values[places])


@pytest.fixture(scope="module")
def digits() -> Digits:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn (extra vision) is not installed")
    found = datasets.load_digits()
    images = torch.tensor(found.images, dtype=torch.float32) / 16 - 0.5
    return Digits(images[:, None], torch.tensor(found.target))


def vision_transformer(labels: int = 10) -> ViTForImageClassification:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    size = {"image_size": _SIDE, "patch_size": _PATCH, "num_channels": 1}
    return ViTForImageClassification(ViTConfig(**shape, **size, num_labels=labels))


def llava() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    side = 2 * _SIDE
    patches = (side // (2 * _PATCH)) ** 2
    vision = CLIPVisionConfig(**shape, image_size=side, patch_size=2 * _PATCH, num_channels=1)
    text = LlamaConfig(**shape, num_key_value_heads=2, vocab_size=DIGIT + 10, max_position_embeddings=64)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=patches
    )
    return LlavaForConditionalGeneration(config)


def image_batch(digits: Digits) -> dict[str, Tensor]:
    return {"pixel_values": digits.images, "labels": digits.values}


def asked(digits: Digits, generator: torch.Generator, *questions: int) -> dict[str, Tensor]:
    """Two digits side by side, one of the questions (TENS, ONES, PARITY), its answer as the only label."""
    count = len(digits.values)
    other = torch.randint(count, (count,), generator=generator)
    pair = torch.cat([digits.images, digits.images[other]], dim=-1)
    pixels = torch.nn.functional.pad(pair, (0, 0, _SIDE // 2, _SIDE // 2), value=-0.5)
    tens, ones = digits.values, digits.values[other]
    question = torch.tensor(questions)[torch.randint(len(questions), (count,), generator=generator)]
    digit = DIGIT + torch.where(question == TENS, tens, ones)
    answer = torch.where(question == PARITY, torch.where(ones % 2 == 1, ODD, EVEN), digit)
    start = torch.tensor([BOS] + [IMAGE] * 16).expand(count, -1)
    ids = torch.cat([start, question[:, None], answer[:, None]], dim=1)
    labels = torch.full_like(ids, -100)
    labels[:, -1] = answer
    mask = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels, "labels": labels}


def random_digits(count: int = 6) -> Digits:
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(count, 1, _SIDE, _SIDE, generator=generator) - 0.5
    return Digits(images, torch.arange(count) % 10)


def parity_batch(digits: Digits) -> dict[str, Tensor]:
    return image_batch(digits._replace(values=digits.values % 2))


def language_batch(digits: Digits) -> dict[str, Tensor]:
    return asked(digits, torch.Generator().manual_seed(5), TENS, PARITY)


# The last block of the vision tower gets no gradient: LLaVA reads the features in front of it.
_LINEAR = "(q_proj|v_proj|fc1|fc2|up_proj|down_proj)"
LLAVA_TARGETS = rf".*(vision_tower.*layers\.0|language_model).*{_LINEAR}|.*linear_[12]"
MODELS = {
    "vit": (vision_transformer, ["q_proj", "v_proj", "fc1", "fc2"], ["classifier"], image_batch),
    "llava": (llava, LLAVA_TARGETS, ["lm_head"], language_batch),
}


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def with_adapter(kind: str, base, arm: str = "direct"):
    _, targets, saved, _ = MODELS[kind]
    config = ManifoldLoraConfig(r=4, lora_alpha=8, target_modules=targets, modules_to_save=saved, **ARMS[arm])
    torch.manual_seed(1)
    return get_peft_model(base, config)


def logits(model, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def test_an_adapter_starts_as_the_base_and_every_layer_of_it_learns(kind):
    build, _, _, batch_of = MODELS[kind]
    batch = batch_of(random_digits())
    expected = logits(build().eval(), batch)
    model = with_adapter(kind, build())
    assert torch.equal(logits(model.eval(), batch), expected)
    found = calibrate(model, [batch])
    assert all(abs(one.angle.median - 1) < 1e-5 for one in found.values())
    with watch_layers(model) as layers:
        model(**batch).loss.backward()
    layers.check()


@pytest.mark.parametrize("count", [1, 6])
def test_a_class_for_each_image_does_not_say_which_tokens_there_are(count):
    """Labels of texts have the shape of a mask, those of images do not: every image and patch counts."""
    config = ManifoldLoraConfig(r=4, target_modules=["q_proj", "classifier"])
    found = calibrate(get_peft_model(vision_transformer(), config), [image_batch(random_digits(count))])
    for name, one in found.items():
        assert one.tokens == (count if name == "classifier" else 16 * count)


def test_a_saved_adapter_comes_back_bit_for_bit(kind, shake, tmp_path):
    build, _, _, batch_of = MODELS[kind]
    build().save_pretrained(tmp_path / "base")
    model = shake(with_adapter(kind, build())).eval()
    save_adapter(model, tmp_path / "adapter")
    again = load_adapter(tmp_path / "adapter", type(build()).from_pretrained(tmp_path / "base")).eval()
    batch = batch_of(random_digits())
    assert torch.equal(logits(again, batch), logits(model, batch))


@pytest.mark.parametrize("arm", ARMS)
def test_linear_arms_merge_and_the_others_refuse(kind, arm, shake):
    build, _, _, batch_of = MODELS[kind]
    model, batch = shake(with_adapter(kind, build(), arm)).eval(), batch_of(random_digits())
    expected = logits(model, batch)
    if arm in LINEAR:
        torch.testing.assert_close(logits(model.merge_and_unload(), batch), expected, rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises(LinearOnlyError):
            model.merge_and_unload()
        assert torch.equal(logits(model, batch), expected)


def test_a_curved_adapter_is_exported_as_the_nearest_lora(kind, shake, tmp_path):
    from peft import PeftModel

    build, _, _, batch_of = MODELS[kind]
    model, batch = shake(with_adapter(kind, build())).eval(), batch_of(random_digits())
    export_lora(model, fit_layers(model, [batch], [batch]), tmp_path / "lora")
    plain = PeftModel.from_pretrained(build(), tmp_path / "lora").eval()
    assert plain.peft_config["default"].peft_type == "LORA"
    curved, near, base = (logits(one, batch) for one in (model, plain, build().eval()))
    assert (near - curved).norm() < 0.5 * (base - curved).norm()


def trained(model, batches, steps: int, rate: float) -> list[float]:
    """The losses of a few steps of AdamW."""
    optimizer = create_optimizer(model, lr=rate)
    losses = []
    for _ in range(steps):
        loss = model(**next(batches)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def drawn(digits: Digits, batch_of, size: int = 64):
    generator = torch.Generator().manual_seed(0)
    while True:
        places = torch.randint(len(digits.values), (size,), generator=generator)
        yield batch_of(Digits(digits.images[places], digits.values[places]))


def accuracy(model, batch: dict[str, Tensor]) -> float:
    """The share of right classes, or of right answers to questions."""
    model.eval()
    labels, said = batch["labels"], logits(model, batch).argmax(-1)
    if labels.dim() == 2:
        labels, said = labels[:, -1], said[:, -2]
    model.train()
    return float((said == labels).float().mean())


def taught(model, learned: Digits, kept: Digits, batch_of, steps: int) -> tuple[list[float], float, float]:
    """Calibrate and train an adapter; its losses, and the accuracy on the digits kept, before and after."""
    held_out = batch_of(kept)
    before = accuracy(model, held_out)
    calibrate(model, [batch_of(learned.part(slice(0, 64)))])
    losses = trained(model, drawn(learned, batch_of), steps, rate=1e-2)
    return losses, before, accuracy(model, held_out)


@pytest.mark.parametrize("arm", ["flat", "direct"])
def test_a_transformer_that_knows_the_digits_learns_the_parity(digits, arm, tmp_path):
    learned, kept = digits.part(slice(0, 1437)), digits.part(slice(1437, None))
    base = vision_transformer()
    trained(base, drawn(learned, image_batch), steps=200, rate=3e-3)
    assert accuracy(base, image_batch(kept)) > 0.6
    base.save_pretrained(tmp_path)
    model = with_adapter("vit", ViTForImageClassification.from_pretrained(tmp_path), arm)
    losses, before, after = taught(model, learned, kept, parity_batch, steps=80)
    print(f"| ViT | {arm} | {losses[0]:.2f} | {losses[-1]:.2f} | {before:.3f} | {after:.3f} |")
    assert losses[-1] < losses[0] / 5
    assert after > before + 0.4


@pytest.mark.parametrize("arm", ["flat", "direct"])
def test_a_llava_learns_to_answer_for_tens_and_parity(digits, arm):
    learned, kept = digits.part(slice(0, 1437)), digits.part(slice(1437, None))
    generator = torch.Generator().manual_seed(3)
    model = with_adapter("llava", llava(), arm)
    losses, before, after = taught(
        model, learned, kept, lambda some: asked(some, generator, TENS, PARITY), steps=100
    )
    print(f"| LLaVA | {arm} | {losses[0]:.2f} | {losses[-1]:.2f} | {before:.3f} | {after:.3f} |")
    assert losses[-1] < losses[0] / 1.5
    assert after > before + 0.2
