"""R26: hostile files, drawn by Hypothesis, end in one line within ten seconds, or load and are right.

Each case is opened in a child of its own with limits of time and memory: adapter configs, safetensors
headers, tensors and other entries of an adapter's folder without a manifest, YAML files and dataset rows. The
base model's weights stay as they are and nothing is written, whatever the end.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_runs import save_base
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from manifold_lora.models.load import load_base
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tuner.apply import adapt
from manifold_lora.models.tuner.bottleneck import BottleneckConfig
from manifold_lora.models.tuner.config import ManifoldLoraConfig

# Drawn cases a test; MANIFOLD_LORA_HOSTILE=20 draws twenty times as many, others each time.
REACH = int(os.environ.get("MANIFOLD_LORA_HOSTILE", "1"))
DRAWS = settings(max_examples=25 * REACH, deadline=None, database=None, derandomize=REACH == 1)
METHODS = {"ours": ManifoldLoraConfig, "lora": LoraConfig, "bottleneck": BottleneckConfig}
HANG = "(([a-z0-9_.]+)+)+!"
Ask = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="limits of memory as Linux has them"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def ask(base: Path) -> Iterator[Ask]:
    """``ask(kind, path)``: how a file was opened by a child of the server."""
    program = str(Path(__file__).with_name("fault_hostile.py"))
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", program, str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ask(kind: str, path: Path, **limits: int) -> dict[str, Any]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"kind": kind, "path": str(path), **limits}) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    yield ask
    server.communicate()


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good folder of each method, without a manifest."""
    folders = {}
    for name, method in METHODS.items():
        adapted = adapt(
            load_base(str(base))[0], method(target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
        )
        folders[name] = save_adapter(adapted, tmp_path_factory.mktemp("adapters") / name)
        (folders[name] / MANIFEST).unlink()
    return folders


def wrong(answer: dict[str, Any]) -> str:
    """What is not as it should be; "" where the file was refused in one line, or loaded and right."""
    if answer["end"] not in ("refused", "loaded") or (answer["end"] == "loaded" and answer["text"]):
        return f"{answer['end']}: {answer['text']}"
    if "\n" in answer["text"]:
        return f"more than one line: {answer['text']!r}"
    return "" if answer["untouched"] and not answer["written"] else f"left {answer}"


@pytest.mark.parametrize("method", METHODS)
def test_the_good_adapter_loads_and_is_right(method: str, adapters: dict[str, Path], ask: Ask) -> None:
    answer = ask("adapter", adapters[method])
    assert (answer["end"], wrong(answer)) == ("loaded", "")


NUMBERS = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([10**9, 2**63, 10**30, 1e308, -0.0, 1e-320]),
    st.floats(allow_nan=False),
)
TEXTS = st.sampled_from(
    [
        HANG,
        "((",
        "[",
        "",
        "a\x00b",
        "../../x",
        "q_proj",
        "all-linear",
        ".*",
        "(?P<x>a)\\2",
        "LORA",
        "x" * 10**5,
        "a{4294967295}",
        ".*" * 9 + "!",
        "é\u2028",
        "lm_head",
        "embed_tokens",
        "pissa",
        "loftq",
        "none",
        "true",
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def fields_of(method: type) -> list[str]:
    return sorted(method().to_dict())


@pytest.mark.parametrize("method", METHODS)
def test_drawn_configs(method: str, adapters: dict[str, Path], ask: Ask, tmp_path: Path, tally) -> None:
    folder, counts = shutil.copytree(adapters[method], tmp_path / "adapter"), [0, 0]
    good = json.loads((folder / CONFIG).read_text())
    changes = st.dictionaries(st.sampled_from(fields_of(METHODS[method])), VALUES, min_size=1, max_size=3)

    @DRAWS
    @given(changes)
    def check(change: dict[str, Any]) -> None:
        (folder / CONFIG).write_text(json.dumps(good | change))
        counts[1] += 1
        assert wrong(ask("adapter", folder)) == ""
        counts[0] += 1

    check()
    tally("R26", f"adapter configs, {method}", *counts)


NAMES = st.sampled_from(
    [
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
        "model.norm.weight",
        "",
        "a\x00",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "__metadata__",
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight",
        "x" * 10**4,
    ]
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "U8", "F4", "X", 3, None]),
        "shape": st.lists(st.sampled_from([0, 1, 2, 8, 16, -1, 2**40, 1.5, "2"]), max_size=4) | SCALARS,
        "data_offsets": st.lists(st.sampled_from([0, 64, 512, -8, 2**60, 1.5]), max_size=3) | SCALARS,
    }
)


@pytest.mark.parametrize("method", METHODS)
def test_drawn_headers(method: str, adapters: dict[str, Path], ask: Ask, tmp_path: Path, tally) -> None:
    folder, counts = shutil.copytree(adapters[method], tmp_path / "adapter"), [0, 0]
    content = (folder / WEIGHTS).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    good, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    named = st.dictionaries(NAMES | st.sampled_from(sorted(good)), ENTRIES | VALUES, min_size=1, max_size=3)

    @DRAWS
    @given(named, st.sampled_from([0, 0, 0, 1, -1, 2**40]), st.binary(max_size=9))
    def check(change: dict[str, Any], shift: int, tail: bytes) -> None:
        header = json.dumps(good | change).encode()
        size = struct.pack("<Q", max(0, len(header) + shift))
        (folder / WEIGHTS).write_bytes(size + header + data + tail)
        counts[1] += 1
        assert wrong(ask("adapter", folder)) == ""
        counts[0] += 1

    check()
    tally("R26", f"safetensors headers, {method}", *counts)


@pytest.mark.parametrize("method", METHODS)
def test_drawn_tensors(method: str, adapters: dict[str, Path], ask: Ask, tmp_path: Path, tally) -> None:
    """Whole safetensors files whose tensors have other names, types or shapes, or are the base's own."""
    folder, counts = shutil.copytree(adapters[method], tmp_path / "adapter"), [0, 0]
    good = load_file(folder / WEIGHTS)
    dtypes = [torch.float8_e4m3fn, torch.int64, torch.bool, torch.bfloat16, torch.float64, torch.complex64]
    own = [name for name in NAMES.elements if name and "\0" not in name and name != "__metadata__"]

    @DRAWS
    @given(
        st.sampled_from([None, *own]),
        st.sampled_from([None, *good]),
        st.sampled_from(dtypes),
        st.sampled_from([None, (), (0,), (1,), (16, 16), (43, 16)]),
    )
    def check(new: str | None, old: str | None, dtype: torch.dtype, shape: tuple[int, ...] | None) -> None:
        tensors = dict(good)
        if old is not None:
            tensors[old] = good[old].to(dtype) if shape is None else torch.zeros(shape).to(dtype)
        if new is not None:
            tensors[new] = torch.zeros(shape or (43, 16)).to(dtype)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        counts[1] += 1
        assert wrong(ask("adapter", folder)) == ""
        counts[0] += 1

    check()
    tally("R26", f"tensors, {method}", *counts)


def as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def as_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def as_loop(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def as_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**33)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST])
def test_entries_that_are_no_files(
    name: str, adapters: dict[str, Path], ask: Ask, tmp_path: Path, tally
) -> None:
    passed, kinds = 0, (as_folder, as_fifo, as_device, as_loop, as_giant)
    for kind in kinds:
        folder = shutil.copytree(adapters["ours"], tmp_path / kind.__name__)
        kind(folder / name)
        answer = ask("adapter", folder)
        passed += answer["end"] == "refused" and wrong(answer) == ""
    tally("R26", f"{name} that is a folder, FIFO, device, loop, giant", passed, len(kinds))


# Each of them was a raw error, a hang or a rewritten base.
KNOWN: dict[str, Any] = {
    "peft_type": ["LORA"],
    "trainable_token_indices": [10**9],
    "target_modules": "((",
    **dict.fromkeys(("exclude_modules", "layers_pattern"), HANG),
    "modules_to_save": [HANG],
    **{f"{name}_pattern": {HANG: 2} for name in ("rank", "alpha")},
    "curvature_pattern": {HANG: -1.0},
    "manifold_pattern": {HANG: "sphere"},
    "bias": 7,
    "r": 10**9,
    "lora_dropout": "x",
    "init_lora_weights": {"a": 1},
    "megatron_config": {"x": 1},
    "layer_replication": [[0, 10**9]],
}


@pytest.mark.parametrize("method", ["ours", "lora"])
def test_known_configs(method: str, adapters: dict[str, Path], ask: Ask, tmp_path: Path, tally) -> None:
    folder, passed, tried = shutil.copytree(adapters[method], tmp_path / "adapter"), 0, []
    good = json.loads((folder / CONFIG).read_text())
    for key, value in [*KNOWN.items(), ("target_modules", HANG)]:
        if key in good:
            extra = {"layers_to_transform": [0]} if key == "layers_pattern" else {}
            (folder / CONFIG).write_text(json.dumps(good | {key: value} | extra))
            answer = ask("adapter", folder)
            tried.append((key, wrong(answer) or answer["end"]))
            passed += tried[-1][1] == "refused"
    assert [row for row in tried if row[1] != "refused"] == []
    tally("R26", f"configs that hung or raised, {method}", passed, len(tried))


LINES = st.one_of(
    st.sampled_from(
        ["train: {steps: 1}", "a: &a [*a]", "? [1]", "x: !!python/object/apply:os.system [ls]", "- 1"]
    ),
    st.sampled_from(
        ["train:\n  steps: yes", "task: {name: {a: b}}", "adapter: {rank: 1e999}", "\t", "---", "%YAML 9"]
    ),
    st.sampled_from(
        ["seeds: [.nan]", "<<: {a: 1}", "jobs: 0x7fffffffffffffffff", '"\\ud800": 1', "arm: [" * 500]
    ),
    st.text(max_size=20),
)


def test_drawn_yaml(ask: Ask, tmp_path: Path, tally) -> None:
    path, counts = tmp_path / "study.yaml", [0, 0]

    @DRAWS
    @given(st.lists(LINES, max_size=4))
    def check(lines: list[str]) -> None:
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        counts[1] += 1
        assert wrong(ask("yaml", path)) == ""
        counts[0] += 1

    check()
    tally("R26", "YAML files", *counts)


ROWS = st.one_of(
    st.fixed_dictionaries({"question": TEXTS | st.just("How many?"), "answer": VALUES | st.just("1 #### 1")}),
    VALUES,
)


def test_drawn_rows(ask: Ask, tmp_path: Path, tally) -> None:
    path, counts = tmp_path / "rows.jsonl", [0, 0]

    @DRAWS
    @given(
        st.lists(ROWS.map(json.dumps) | st.sampled_from(['{"question": NaN}', "{", "[" * 10**4]), max_size=4)
    )
    def check(rows: list[str]) -> None:
        path.write_text("\n".join(rows))
        counts[1] += 1
        assert wrong(ask("rows", path)) == ""
        counts[0] += 1

    check()
    tally("R26", "dataset rows", *counts)


def test_the_limits_hold_and_no_bad_end_passes(ask: Ask, tmp_path: Path) -> None:
    """A reader that never ends is ended, one that asks for too much does not get it."""
    assert wrong(ask("hang", tmp_path, seconds=1)).startswith("killed: ")
    assert wrong(ask("greedy", tmp_path)).startswith("raised: MemoryError")
    good = {"end": "refused", "text": "x", "untouched": True, "written": []}
    assert wrong(good) == ""
    bad = [
        {"end": "loaded", "text": "other numbers"},
        {"text": "a\nb"},
        {"untouched": False},
        {"written": ["x"]},
    ]
    assert all(wrong(good | change) for change in bad)
