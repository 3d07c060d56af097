"""A GGUF file is a base model: weights, tokenizer and chat template as it holds them, or one line why not."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import get_peft_model

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.fingerprint import fingerprint
from manifold_lora.models.gguf_file import converted
from manifold_lora.models.load import load_adapter, load_base, load_tokenizer
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.shipped import SHIPPED, cache_folder, file_sha256
from manifold_lora.models.tuner.config import ManifoldLoraConfig

pytest.importorskip("gguf", reason="the extra gguf is not installed")

IDS = torch.tensor([[1, 7, 9, 30, 12]])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A file and the model in it."""
    from tiny_gguf import write_gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_gguf(path)


@pytest.fixture
def file(original, tmp_path, monkeypatch):
    """A copy of the file, alone in its folder, and an empty cache."""
    monkeypatch.setenv("MANIFOLD_LORA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    return shutil.copy(original[0], tmp_path / "model" / "tiny.gguf")


def refusal(name) -> str:
    with pytest.raises(ManifoldLoraError) as caught:
        load_base(str(name))
    assert "\n" not in str(caught.value)
    assert not list((cache_folder() / "converted").glob("*/*"))
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_are_those_of_the_file_in_the_dtype_asked_for(file, original, dtype):
    model, _ = load_base(str(file), dtype=dtype)
    wanted = original[1].state_dict()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, wanted[name].to(dtype)), name
    if dtype == torch.float32:
        assert torch.equal(model.eval()(IDS).logits, original[1](IDS).logits)


def test_the_tokenizer_and_the_chat_template_are_those_of_the_file(file):
    from tiny_gguf import CHAT, vocabulary

    tokenizer = load_tokenizer(str(file))
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == vocabulary()
    assert tokenizer.chat_template == CHAT
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id] == [0, 1, 2]
    ids = tokenizer("a ab N0", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "Ġab", "ĠN", "0"]
    assert tokenizer.decode(ids) == "a ab N0"


def test_a_folder_with_one_file_is_that_file_and_with_two_a_choice(file):
    load_base(str(file.parent))
    shutil.copy(file, file.with_name("other.gguf"))
    with pytest.raises(ManifoldLoraError, match=r"name one of other\.gguf, tiny\.gguf"):
        load_base(str(file.parent))


def test_safetensors_beside_it_go_first(file, model_folder):
    folder = shutil.copytree(model_folder("llama"), file.parent, dirs_exist_ok=True)
    assert load_base(str(folder))[0].config.vocab_size == 64
    assert load_base(str(file))[0].config.vocab_size != 64


def test_it_is_converted_once(file, monkeypatch):
    load_base(str(file))
    monkeypatch.setattr("manifold_lora.models.gguf_file._convert", lambda *_: pytest.fail("converted again"))
    load_base(str(file.rename(file.with_name("renamed.gguf"))))


def test_the_fingerprint_is_that_of_the_content(file):
    before = fingerprint(str(file), None)
    assert fingerprint(str(file.parent), None) == before
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    assert fingerprint(str(file), None) != before


def test_what_is_loaded_is_saved_as_any_model(file, tmp_path):
    model, tokenizer = load_base(str(file))
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, _ = load_base(str(tmp_path / "saved"))
    assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_an_adapter_names_the_file_and_is_refused_on_another(file, tmp_path):
    config = ManifoldLoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_base(str(file))[0], config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.3)
    saved = save_adapter(model, tmp_path / "adapter")
    written = json.loads((saved / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(file)
    assert torch.equal(load_adapter(saved).eval()(IDS).logits, model.eval()(IDS).logits)
    again = save_adapter(load_adapter(saved), tmp_path / "again")
    assert (again / "adapter_config.json").read_text() == (saved / "adapter_config.json").read_text()
    other, _ = load_base(str(file))
    with torch.no_grad():
        other.model.embed_tokens.weight.mul_(1.1)
    with pytest.raises(ManifoldLoraError, match="other numbers"):
        load_adapter(saved, other)


@pytest.mark.parametrize("keep", [0, 3, 30, 3000, -1], ids=str)
def test_a_file_that_was_cut_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    assert str(file) in refusal(file)


def test_another_kind_of_file_is_refused(file):
    file.write_text("no such thing " * 1000)
    assert str(file) in refusal(file)


@pytest.mark.parametrize(
    ("architecture", "numbers"),
    [("clip", {}), ("no_such", {}), ("llama", {"rope_theta": 0.0}), ("llama", {"layers": 3})],
    ids=str,
)
def test_what_no_causal_model_is_is_refused(file, architecture, numbers):
    from tiny_gguf import write_gguf

    file.unlink()
    write_gguf(file, architecture, **numbers)
    assert str(file) in refusal(file)


def test_weights_that_are_not_finite_are_refused(file):
    content = file.read_bytes()
    file.write_bytes(content[:-8] + b"\xff\xff\xff\x7f" * 2)
    assert "NaN or infinity" in refusal(file)


def test_a_missing_file_names_its_neighbour(file):
    with pytest.raises(ManifoldLoraError, match=r"did you mean '.*tiny\.gguf'"):
        load_base(str(file.with_name("tyny.gguf")))


def test_a_shipped_name_is_its_file_and_only_that(file, monkeypatch):
    model = replace(SHIPPED["smollm2"], name="toy", file="toy.gguf", sha256=file_sha256(file))
    monkeypatch.setitem(SHIPPED, "toy", model)
    with pytest.raises(ManifoldLoraError, match="run: manifold-lora fetch toy"):
        load_base("toy")
    model.path.parent.mkdir(parents=True)
    shutil.copy(file, model.path)
    loaded, _ = load_base("toy")
    assert loaded.config._name_or_path == "toy"
    monkeypatch.setitem(SHIPPED, "toy", replace(model, sha256="0" * 64))
    with pytest.raises(ManifoldLoraError, match="fetch it again"):
        load_base("toy")


def test_without_the_package_the_extra_is_named(file, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ManifoldLoraError, match=r"pip install 'manifold-lora\[gguf\]'"):
        converted(file)
