"""evaluation.engine vllm: an ablation's cells answer as transformers do, item by item, in float32."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def own(tmp_path):
    """Examples whose answers are some word of the tiny model, many of which an adapter gets wrong."""
    rows = [
        {"prompt": f"w{i} w{i + 1} w{(3 * i) % 200}", "completion": f" w{(i * i) % 11} w{i % 5}"}
        for i in range(60)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def answered(store, cell):
    return [{key: value for key, value in item.items() if key != "nll"} for item in store.items(cell)]


def test_the_cells_of_both_engines_give_the_same_answers(root, own, tmp_path, monkeypatch):
    """Each cell in a child of the executor, where vLLM starts no process of its own."""
    from manifold_lora.experiments.cli import main
    from manifold_lora.experiments.results.manifest import Manifest
    from manifold_lora.experiments.results.store import ResultStore

    monkeypatch.chdir(tmp_path)
    grid = "{arm: [lora, direct], evaluation.engine: [transformers, vllm]}"
    flags = ["--data", str(own), "--model", str(root / "base"), "--grid", grid, "--output", "runs"]
    flags += ["--train.steps", "10", "--train.learning-rate", "3e-3", "--train.batch-size", "8"]
    flags += ["--evaluation.max-new-tokens", "6", "--preflight", "warn"]
    flags += ["--jobs", "1", "--execution.threads", "1"]
    assert main(["ablate", *flags]) == 0
    store, found = ResultStore(Path("runs")), {}
    for cell in Manifest.read(Path("runs")).cells:
        record = store.read(cell)
        key = record["point"]["arm"], record["point"]["evaluation.engine"]
        found[key] = answered(store, cell)
    for arm in ("lora", "direct"):
        assert len(found[arm, "vllm"]) > 10
        assert found[arm, "vllm"] == found[arm, "transformers"]
        assert len({item["output"] for item in found[arm, "vllm"]}) > 3
    assert found["lora", "vllm"] != found["direct", "vllm"]


@pytest.mark.parametrize("arm", ["sphere", "token", None])
def test_an_adapter_and_the_base_answer_as_transformers_do(root, own, arm):
    from served_models import build_adapter
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from manifold_lora.experiments.runs.evaluate import evaluate_sets
    from manifold_lora.experiments.runs.prepare import task_of
    from manifold_lora.experiments.settings.run import RunSettings

    base = root / "base"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    if arm is not None:
        model = build_adapter(base, root / f"{arm}-again", arm)
    found = {}
    for engine in ("transformers", "vllm"):
        settings = {"engine": engine, "nll": False, "batch_size": 16}
        run = RunSettings(task={"data": own}, model={"name": str(base)}, evaluation=settings)
        sets, items = evaluate_sets(model, tokenizer, task_of(run.task, run.model.name), run, 6)
        found[engine] = [{name: {**one, "seconds": 0} for name, one in sets.items()}, items]
    assert found["vllm"] == found["transformers"]
