"""A server that opens hostile files: it forks for every case, with limits of time and memory on the child.

It runs as a program, reads one JSON line a case from stdin and answers with one line.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.files import read_rows
from manifold_lora.experiments.data.rows import GradeSchoolRow
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import load_settings
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved.base_identity import describe_base

SECONDS, MEMORY = 10, 2 * 2**30


def serve(base: str) -> None:
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    # Whatever the first load imports is there before the first case.
    describe_base(model)
    for line in sys.stdin:
        print(json.dumps(_in_a_child(model, json.loads(line))), flush=True)


def _in_a_child(model: PreTrainedModel, case: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer:
            answer.write(json.dumps(_open(model, case)))
            answer.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"end": "killed", "text": f"wait status {status}"}


def _open(model: PreTrainedModel, case: dict[str, Any]) -> dict[str, Any]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.alarm(case.get("seconds", SECONDS))
    path = Path(case["path"])
    before, weights = _files(path), {k: v.clone() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        try:
            wrong = _READERS[case["kind"]](path, model)
            found = {"end": "loaded", "text": wrong}
        except ManifoldLoraError as error:
            found = {"end": "refused", "text": str(error)}
        except BaseException as error:  # what a reader must not let out
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
            found = {"end": "raised", "text": text[:500]}
        found["written"] = [str(p) for p in Path(empty).rglob("*")] + ["changed"] * (_files(path) != before)
        os.chdir("/")
    # An adapted model has its weights under longer names, so look at the parameters that were there.
    found["untouched"] = _untouched(model, weights)
    return found


def _untouched(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> bool:
    now = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
        for name, tensor in model.state_dict(keep_vars=False).items()
    }
    return all(name in now and torch.equal(now[name], tensor) for name, tensor in weights.items())


def _files(path: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in ([path, *path.rglob("*")]))


def _adapter(folder: Path, model: PreTrainedModel) -> str:
    """Loaded and right: the model has exactly the tensors of the file."""
    adapted = load_adapter(folder, model)
    saved = load_file(folder / "adapter_model.safetensors")
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if state.keys() != saved.keys():
        return f"other tensors than the file's: {sorted(state.keys() ^ saved.keys())[:3]}"
    wrong = [name for name, tensor in state.items() if not torch.equal(tensor, saved[name].to(tensor))]
    return f"other numbers in {wrong[0]}" if wrong else ""


def _yaml(path: Path, model: PreTrainedModel) -> str:
    load_settings(AblationSettings, path)
    return ""


def _rows(path: Path, model: PreTrainedModel) -> str:
    given = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    rows = read_rows(path, GradeSchoolRow).rows
    return "" if len(rows) == len(given) else f"{len(rows)} rows of {len(given)} lines"


def _hang(path: Path, model: PreTrainedModel) -> str:
    while True:
        pass


def _greedy(path: Path, model: PreTrainedModel) -> str:
    return str(len(bytearray(2 * MEMORY)))


_READERS = {"adapter": _adapter, "yaml": _yaml, "rows": _rows, "hang": _hang, "greedy": _greedy}

if __name__ == "__main__":
    serve(sys.argv[1])
