"""Small ablation results to compare and report on."""

import pytest

from manifold_lora.experiments.ledger import Ledger
from manifold_lora.experiments.manifest import Manifest

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
    """Write results and their manifest; returns the ledger."""
    ledger, ids = Ledger(folder), []
    for place, (record, items) in enumerate(results):
        ids.append(f"{place:016x}")
        ledger.write(ids[-1], record, items)
    Manifest("toy", baseline, tuple(ids)).write(folder)
    return ledger


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
