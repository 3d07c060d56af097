"""Curved adapters in vLLM: Hugging Face's answers, alone and mixed; loaded, evicted, replaced, refused."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError

# Float32 in another order of sums; what is served as plain LoRA is whole units away.
CLOSE = 2e-4
# vLLM and its libraries deprecate each other's names.
pytestmark = pytest.mark.filterwarnings("default")


def request(name, key, folder, **options):
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, key, str(folder), **options)


def known(root):
    return json.loads((root / "answers.json").read_text())


def wording(served, adapter):
    from served_models import PROMPTS, generate

    return generate(served, [(prompt, adapter) for prompt in PROMPTS])


def test_one_batch_of_seven_adapters_and_the_base_in_three_slots(served, root):
    from served_models import ARMS, mixed

    found = mixed(served, root, list(ARMS))
    assert len(found) == len(ARMS) + 1
    assert max(found.values()) < CLOSE, found


def test_an_adapter_alone(served, root):
    from served_models import difference

    # The ids of the batch before: vLLM knows an adapter by its id alone.
    for key, arm in ((1, "lorentz"), (3, "sphere")):
        assert difference(known(root)[arm], wording(served, request(arm, key, root / arm))) < CLOSE


def test_its_a_and_b_alone_are_another_adapter(served, root, tmp_path):
    import torch
    from served_models import difference

    from manifold_lora.models.serving.adapter import ServedAdapter

    ServedAdapter(root / "lorentz", torch.float32).write_plain(tmp_path / "plain")
    plain = request("plain", 90, tmp_path / "plain")
    assert difference(known(root)["lorentz"], wording(served, plain)) > 100 * CLOSE


def test_what_was_verified_is_served_whatever_happens_to_its_folder(served, root, tmp_path):
    from served_models import ARMS, difference, mixed

    folder = Path(shutil.copytree(root / "lorentz", tmp_path / "moved"))
    adapter = request("moved", 50, folder)
    assert difference(known(root)["lorentz"], wording(served, adapter)) < CLOSE
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    mixed(served, root, list(ARMS))  # more adapters than vLLM keeps: it has to read this one again
    assert difference(known(root)["lorentz"], wording(served, adapter)) < CLOSE
    with pytest.raises(Exception, match="damaged, or changed after it was saved"):
        served.llm_engine.add_lora(request("moved", 50, folder, load_inplace=True))
    assert difference(known(root)["lorentz"], wording(served, adapter)) < CLOSE


def test_an_adapter_is_replaced_in_place_and_removed(served, root, tmp_path):
    from served_models import difference

    folder = Path(shutil.copytree(root / "poincare", tmp_path / "one"))
    served.llm_engine.add_lora(request("one", 60, folder))
    shutil.rmtree(folder)
    shutil.copytree(root / "sphere", folder)
    assert difference(known(root)["poincare"], wording(served, request("one", 60, folder))) < CLOSE
    served.llm_engine.add_lora(request("one", 60, folder, load_inplace=True))
    assert difference(known(root)["sphere"], wording(served, request("one", 60, folder))) < CLOSE
    assert served.llm_engine.remove_lora(60)
    assert 60 not in served.llm_engine.list_loras()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"transform": "boost"}, "served adapter: got 'boost on lorentz'; allowed: tangent, or direct"),
        ({"token_norms": "shuffled"}, "served token_norms: got 'shuffled'"),
        ({"rank": 16}, "LoRA rank 16 is greater than max_lora_rank 8"),
    ],
    ids=str,
)
def test_an_adapter_that_cannot_be_served_is_refused(served, root, tmp_path, parts, message):
    from served_models import build_adapter, difference

    build_adapter(root / "base", tmp_path / "odd", "odd", **parts)
    with pytest.raises(Exception, match=message) as caught:
        served.llm_engine.add_lora(request("odd", 70, tmp_path / "odd"))
    assert "\n" not in str(caught.value)
    assert difference(known(root)["token"], wording(served, request("token", 5, root / "token"))) < CLOSE


def test_an_adapter_of_another_base_is_refused(served, root, tmp_path):
    from served_models import build_adapter, build_base

    build_adapter(build_base(tmp_path / "other", seed=1), tmp_path / "foreign", "lorentz")
    with pytest.raises(ManifoldLoraError, match="base model of adapter: got 'other numbers in"):
        served.llm_engine.add_lora(request("foreign", 71, tmp_path / "foreign"))


def test_a_folder_that_is_no_adapter_is_refused(served, tmp_path):
    with pytest.raises(Exception, match="No adapter found"):
        served.llm_engine.add_lora(request("nothing", 72, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", ["whole", "sharded"])
def test_two_workers_make_the_same_answers(root, sharded, monkeypatch):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    command = [sys.executable, str(Path(__file__).parent / "served_models.py"), str(root), sharded]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert max(found.values()) < CLOSE, found


def asked(url, body=None):
    """(status, decoded answer) of the server."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.fixture
def server(root, tmp_path):
    """The address of an OpenAI server with one adapter that it was started with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(root / "base")]
    command += [
        "--enforce-eager",
        "--enable-lora",
        "--max-loras",
        "2",
        "--max-lora-rank",
        "8",
        "--port",
        str(port),
    ]
    command += [
        "--dtype",
        "float32",
        "--max-model-len",
        "64",
        "--lora-modules",
        f"lorentz={root / 'lorentz'}",
    ]
    settings = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 240
    try:
        while asked(f"{url}/health")[0] != 200:
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_over_the_openai_api_a_tampered_adapter_is_refused_and_the_server_goes_on(server, root, tmp_path):
    from served_models import PROMPTS, TOKENS
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(root / "base")

    def texts_are_right(name, arm):
        for prompt, (ids, _) in zip(PROMPTS, known(root)[arm], strict=True):
            body = {
                "model": name,
                "prompt": prompt,
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
            }
            status, answer = asked(f"{server}/v1/completions", body)
            assert status == 200, answer
            wording = json.loads(answer)["choices"][0]["text"]
            assert wording.split() == tokenizer.decode(ids, skip_special_tokens=True).split()

    texts_are_right("lorentz", "lorentz")
    folder = Path(shutil.copytree(root / "sphere", tmp_path / "sphere"))
    load = {"lora_name": "sphere", "lora_path": str(folder)}
    assert asked(f"{server}/v1/load_lora_adapter", load)[0] == 200
    texts_are_right("sphere", "sphere")
    assert asked(f"{server}/v1/unload_lora_adapter", {"lora_name": "sphere"})[0] == 200
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    status, answer = asked(f"{server}/v1/load_lora_adapter", load)
    assert status >= 400
    assert "damaged, or changed after it was saved" in answer
    texts_are_right("lorentz", "lorentz")
