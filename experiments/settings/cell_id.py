"""The name of a cell: a hash of its settings and of the content that they read."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from manifold_lora.experiments.settings.methods import has_geometry
from manifold_lora.experiments.settings.run import AUTO, NONE, OWN, RunSettings

# Keys that came later, and what the results from before there were these had: those keep their names.
_ADDED: dict[str, dict[str, Any]] = {
    "task": {
        "prompt_field": None,
        "target_field": None,
        "answer_field": None,
        "choices_field": None,
        "judge": "auto",
        "held_out": 0.1,
    },
    "model": {"quantization": "none"},
    "adapter": {
        "lora_bias": False,
        "options": {},
        "max_angle": "inf",
        "calibration_rows": 0,
        "weight_manifold": None,
    },
    "train": {"gradient_accumulation": 1, "early_stopping": 0, "validate_by": "loss", "validate_every": 50},
    "evaluation": {"num_beams": 1, "limit": None, "nll": True, "retention": AUTO, "engine": "transformers"},
}


# Read by a method with a geometry alone.
_OF_A_GEOMETRY = ("max_angle", "calibration_rows")


def cell_id(run: RunSettings, inputs: Mapping[str, str]) -> str:
    """Hash of the canonical settings and of the content they read; neither places on disk nor what is
    written along the way count."""
    data = run.model_dump(mode="json")
    for key in ("data", "labels"):  # whose content is among the inputs
        data["task"].pop(key)
    for key in ("plugins", "preflight"):
        data.pop(key)
    if run.task.name == OWN:
        data["task"].pop("tests")  # files, whose content is among the inputs
    if run.evaluation.retention not in (AUTO, NONE):
        data["evaluation"].pop("retention")  # a file, as well
    for key in ("checkpoint_every", "report_to"):
        data["train"].pop(key)
    for block, keys in _ADDED.items():
        for key, before in keys.items():
            unread = key in _OF_A_GEOMETRY and not has_geometry(run.adapter.method)
            if unread or data[block].get(key) == before:
                data[block].pop(key)
    if "base" in inputs:
        # Of a pre-trained model, auto once meant text for these.
        once_text = (run.task.name, run.task.style, run.task.template) == ("word_problems", "auto", "plain")
        if once_text and run.model.name != "embedded":
            data["task"]["style"] = "equation"
        data["model"].pop("name")
    text = json.dumps({"run": data, "inputs": dict(inputs)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
