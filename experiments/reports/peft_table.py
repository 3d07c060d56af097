"""Results in the JSON of PEFT's method_comparison, so that its table takes our arms beside theirs."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore

FOLDER = "peft"
# What its table reads of packages; those that were not there are null.
_PACKAGES = ("transformers", "datasets", "peft", "torch", "bitsandbytes")


def write_peft_table(folder: Path) -> list[Path]:
    """Write ``folder/peft/TEST SET/ARM--CELL.json`` for every verified result; returns the files.

    Raises ManifoldLoraError for another folder, or one without a result.
    """
    written, store = [], ResultStore(folder)
    for record in filter(None, map(store.read, Manifest.read(folder).cells)):
        if record["status"] != "ok":
            continue
        at = datetime.fromtimestamp(store.path(record["cell"]).stat().st_mtime, UTC)
        for test, result in peft_results(record, at.isoformat(timespec="seconds")):
            # Names are whatever a config says.
            arm, name = (quote(text, safe=" ") for text in (record["run"]["arm"], test))
            path = folder / FOLDER / name / f"{arm}--{record['cell']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
            written.append(path)
    if not written:
        raise ManifoldLoraError("results", str(folder), "an ablation with a finished cell")
    return written


def peft_results(record: Mapping[str, Any], created_at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(test set, result as PEFT writes it) of one cell; what the cell did not measure is null.

    ``accelerator_memory_max`` is the cell's peak memory in bytes, the process's where it ran on a CPU.
    """
    run, cost, scores = record["run"], record["cost"], record["evaluation"]
    settings, losses = run["train"], record["train"]["losses"]
    rows = settings["batch_size"] * settings["gradient_accumulation"]
    run_info = {
        "created_at": created_at,
        "total_time": cost["train_seconds"] + sum(score["seconds"] for score in scores.values()),
        "experiment_name": _name(run["arm"], record["point"]),
        "peft_branch": "manifold-lora",
        "train_config": _train_config(run),
        "peft_config": {"peft_type": _peft_type(run["adapter"]["method"]), **run["adapter"]},
        "error_msg": "",
    }
    train_info = {
        "accelerator_memory_reserved_avg": None,
        "accelerator_memory_max": round(cost["peak_memory_mb"] * 2**20),
        "accelerator_memory_reserved_99th": None,
        "train_time": cost["train_seconds"],
        "file_size": cost["adapter_bytes"],
        "num_trainable_params": cost["trainable_parameters"],
        "num_total_params": None,
        "status": "success",
    }
    versions = record["meta"]["versions"]
    meta = {
        "package_info": {f"{name}-version": versions.get(name) for name in _PACKAGES},
        "system_info": {},
        "inputs": record["meta"]["inputs"],
    }
    last = {
        "step": settings["steps"],
        "valid accuracy": scores.get("validation", {}).get("accuracy"),
        "train loss": losses[-1] if losses else None,
        "train samples": settings["steps"] * rows,
        "train total tokens": record["train"]["tokens"],
    }
    for test in scores.keys() - {"validation"}:
        metrics = [{**last, "test accuracy": scores[test]["accuracy"]}]
        yield (
            test,
            {"run_info": run_info, "train_info": {**train_info, "metrics": metrics}, "meta_info": meta},
        )


def _name(arm: str, point: Mapping[str, Any]) -> str:
    others = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in point.items() if key != "arm")
    return f"{arm}/{others}" if others else arm


def _peft_type(method: str) -> str:
    return method.rpartition(".")[2].upper()


def _train_config(run: Mapping[str, Any]) -> dict[str, Any]:
    settings = run["train"]
    return {
        "model_id": run["model"]["name"],
        "dtype": run["model"]["dtype"],
        "max_seq_length": settings["max_length"],
        "batch_size": settings["batch_size"],
        "batch_size_eval": run["evaluation"]["batch_size"],
        "max_steps": settings["steps"],
        "seed": settings["seed"],
        "grad_norm_clip": settings["max_grad_norm"],
        "optimizer_type": "AdamW",
        "optimizer_kwargs": {"lr": settings["learning_rate"], "weight_decay": settings["weight_decay"]},
    }
