"""Small ablation results to compare and report on."""

import numpy as np
import pytest

from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.settings.arms import ARMS

COST = {
    "train_seconds": 2.0,
    "tokens_per_second": 100.0,
    "seconds_per_item": 0.01,
    "peak_memory_mb": 300.0,
    "trainable_parameters": 64,
    "adapter_bytes": 256,
}


def result(arm, rate, seed, correct, validation, gain=None):
    """A record and its items: ``correct`` lists 0/1 per test item."""
    items = [
        {"set": "test", "id": f"{place:03}", "correct": bool(right)} for place, right in enumerate(correct)
    ]
    record = {
        "status": "ok",
        "reason": "",
        "point": {"arm": arm, "train.learning_rate": rate, "train.seed": seed},
        "run": {"train": {"learning_rate": rate, "seed": seed}},
        "evaluation": {
            "validation": {"accuracy": validation, "items": 10, "seconds": 0.1},
            "test": {"accuracy": sum(correct) / len(correct), "items": len(correct), "seconds": 0.1},
        },
        "cost": COST,
        "geometry": {"gain": {"layer": gain} if gain else {}, "kappa": {"layer": -1.0} if gain else {}},
    }
    return record, items


def fill(folder, results, baseline="lora"):
    """Write results and their manifest; returns the store."""
    store, ids = ResultStore(folder), []
    for place, (record, items) in enumerate(results):
        ids.append(f"{place:016x}")
        store.write(ids[-1], record, items)
    Manifest("toy", baseline, tuple(ids)).write(folder)
    return store


@pytest.fixture
def ablation(tmp_path):
    """LoRA at two rates and direct at one, two seeds each; on test, LoRA's other rate would look better."""
    results = [
        result("lora", 1e-3, 0, [1, 1, 0, 0], 0.8),
        result("lora", 1e-3, 1, [1, 0, 0, 0], 0.8),
        result("lora", 1e-2, 0, [1, 1, 1, 1], 0.2),
        result("lora", 1e-2, 1, [1, 1, 1, 1], 0.2),
        result("direct", 1e-3, 1, [1, 1, 1, 0], 0.7, gain=1.2),
        result("direct", 1e-3, 0, [1, 1, 0, 1], 0.7, gain=1.4),
    ]
    return tmp_path, fill(tmp_path, results)


@pytest.fixture
def arms_named(tmp_path):
    """A function: arms' names -> the folder of an ablation of them and LoRA, with a cell that failed."""

    def build(names):
        results = [result(arm, 1e-3, seed, [1, 0, seed], 0.5) for arm in ["lora", *names] for seed in (0, 1)]
        for record, _ in results:
            record["run"] |= {"arm": record["point"]["arm"], "adapter": {"method": "lora"}}
        failed = {**results[-1][0], "status": "failed", "reason": "[/] \x1b[31m"}
        fill(tmp_path, [*results, (failed, [])])
        return tmp_path

    return build


@pytest.fixture
def two_ranks(tmp_path):
    """LoRA and direct at ranks 2 and 8: direct is better by one item of four, and by two."""
    results = []
    for rank in (2, 8):
        for arm, right in (("lora", [1, 0, 0, 0]), ("direct", [1, 1, 0, rank == 8])):
            for seed in (0, 1):
                results.append(result(arm, 1e-3, seed, right, 0.5))
                results[-1][0]["point"]["adapter.rank"] = rank
    return fill(tmp_path, results)


def simulated(accuracies, seeds=4, items=300, rates=(1e-2,)):
    """Results of arms that are right where an item's difficulty, a little noise added, is below a level.

    ``accuracies``: arm -> level, the same difficulties for all arms.
    """
    rng = np.random.default_rng(0)
    difficulty = rng.random(items)
    return [
        _detailed(arm, rate, seed, (difficulty + rng.normal(0, 0.05, items) < level).astype(int).tolist())
        for arm, level in accuracies.items()
        for rate in rates
        for seed in range(seeds)
    ]


def _detailed(arm, rate, seed, correct):
    curved = ARMS[arm]["method"] == "manifold_lora"
    record, items = result(arm, rate, seed, correct, 0.5 + rate, gain=1.2 + 0.01 * seed if curved else None)
    record["run"] |= {"arm": arm, "adapter": ARMS[arm]}
    if curved:
        stated = ARMS[arm].get("curvature", -1.0)
        record["geometry"]["kappa"] = {"layer": stated if isinstance(stated, float) else -1.0}
    record["meta"] = {
        "versions": {"torch": "9.9.9"},
        "inputs": {"base": "f00d" * 16},
        "notes": {"training rows also in a test": 181},
    }
    record["evaluation"]["test"] |= {"disagreements": 7, "truncated": 5}
    record["train"] = {"resumed_from": 0, "set_aside": [], "left_out": 0}
    for item in items:
        item |= {
            "prompt": f"What is <b>{item['id']}</b> & more?",
            "output": "right" if item["correct"] else "</pre><script>alert(1)</script>",
            "extracted": "right" if item["correct"] else "wrong",
            "answer": "right",
            "group": "depth 1",
        }
    return record, items


@pytest.fixture(scope="session")
def report_on(tmp_path_factory):
    """A function: levels by arm (see ``simulated``) -> the folder of such an ablation."""

    def build(accuracies, failures=(), **options):
        results = [*simulated(accuracies, **options), *failures]
        folder = tmp_path_factory.mktemp("ablation")
        fill(folder, results)
        return folder

    return build


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of an untrained Llama of two layers that knows the task's words."""
    # Only here: the tests that need no model are quick without its libraries.
    from manifold_lora.experiments.tasks import build_task
    from manifold_lora.models.tiny import tiny_model, word_tokenizer

    folder = tmp_path_factory.mktemp("base")
    tokenizer = word_tokenizer(
        f"{example.prompt} {example.target}" for example in build_task("taxonomy").train
    )
    tokenizer.save_pretrained(folder)
    model = tiny_model(len(tokenizer), hidden_size=16, layers=2, heads=2, intermediate_size=32)
    model.save_pretrained(folder)
    return str(folder)
