"""Pushed to a hub and pulled by name: the hub is a folder, laid out as the cache that is read offline."""

import hashlib
import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.save import save_adapter


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Uploads become snapshots of the cache; nothing asks a network."""

    def create_commit(api, repo_id, operations, **others):
        folder = tmp_path / "hub" / f"models--{repo_id.replace('/', '--')}"
        main, digest = folder / "refs" / "main", hashlib.sha256()
        new = folder / "new"
        if main.is_file():
            shutil.copytree(folder / "snapshots" / main.read_text(), new)
        for operation in operations:
            path = new / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                path.write_bytes(content := file.read())
            digest.update(content)
        commit = digest.hexdigest()[:40]
        (folder / "snapshots").mkdir(exist_ok=True)
        new.rename(folder / "snapshots" / commit)
        main.parent.mkdir(exist_ok=True)
        main.write_text(commit)
        return SimpleNamespace(oid=commit)

    monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **others: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    monkeypatch.setattr(HfApi, "_validate_yaml", lambda api, content, **others: None)
    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_an_adapter_is_pushed_with_its_seal_and_loaded_by_name_and_commit(
    hub, adapted, shake, base, tokens, tmp_path
) -> None:
    model = shake(adapted(transform="boost"))
    first = HfApi().upload_folder(repo_id="me/adapter", folder_path=save_adapter(model, tmp_path / "out"))
    expected = model(tokens).logits
    loaded = load_adapter("me/adapter", base(), require_manifest=True)
    assert torch.equal(loaded(tokens).logits, expected)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.mul_(2.0)
    HfApi().upload_folder(repo_id="me/adapter", folder_path=save_adapter(model, tmp_path / "out"))
    assert torch.equal(load_adapter("me/adapter", base())(tokens).logits, model(tokens).logits)
    assert torch.equal(load_adapter("me/adapter", base(), revision=first.oid)(tokens).logits, expected)

    weights = next(hub.glob(f"*/snapshots/{first.oid}/adapter_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ManifoldLoraError, match="damaged, or changed after it was saved"):
        load_adapter("me/adapter", base(), revision=first.oid)


def test_what_peft_pushes_is_the_adapter_without_a_seal(hub, adapted, shake, base, tokens) -> None:
    model = shake(adapted())
    model.push_to_hub("me/plain")
    with pytest.warns(UserWarning, match="no manifold_lora.json"):
        loaded = load_adapter("me/plain", base())
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    with pytest.raises(ManifoldLoraError, match="manifold_lora"):
        load_adapter("me/plain", base(), require_manifest=True)
    assert not list(hub.glob("*plain/snapshots/*/manifold_lora.json"))
