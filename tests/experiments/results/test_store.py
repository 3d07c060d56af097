"""The store believes nothing that does not verify."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.experiments.results.store import ResultStore, content

RECORD = {"status": "ok", "reason": "", "evaluation": {"test": {"accuracy": 0.5}}}
ITEMS = [
    {"id": "1", "output": "vier = 4 \u2713\n", "correct": True},
    {"id": "2", "output": "", "correct": False},
]


def test_what_is_written_is_read_back(tmp_path):
    store = ResultStore(tmp_path)
    store.write("cell", RECORD, ITEMS)
    assert store.done("cell")
    assert store.read("cell").items() >= RECORD.items()
    assert store.items("cell") == ITEMS
    assert [record["cell"] for record in store.all()] == ["cell"]
    assert not list(tmp_path.rglob("*.tmp"))


@settings(max_examples=60)
@given(where=st.floats(0, 0.999), bit=st.integers(0, 7), which=st.sampled_from(["result", "items"]))
def test_one_flipped_bit_or_a_cut_makes_a_cell_undone(tmp_path_factory, where, bit, which):
    store = ResultStore(tmp_path_factory.mktemp("store"))
    store.write("cell", RECORD, ITEMS)
    path = store.path("cell") if which == "result" else store.items_path("cell")
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    for damaged in (data[:place], data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]):
        path.write_bytes(damaged)
        before = json.loads(data) if which == "result" else None
        if which == "result" and _same(damaged, before):
            continue  # white space between tokens carries no figure
        assert store.read("cell") is None
        assert not store.done("cell")


def _same(damaged, before):
    try:
        return json.loads(damaged) == before
    except ValueError:
        return False


def test_nan_is_never_written(tmp_path):
    store = ResultStore(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        store.write("cell", {**RECORD, "loss": float("nan")})
    assert not store.path("cell").exists()


def test_outputs_come_back_whatever_they_hold(tmp_path):
    store = ResultStore(tmp_path)
    items = [
        {"id": str(place), "output": f"a{char}b"} for place, char in enumerate("\u2028\x85\x0b\x0c\r\n\t")
    ]
    store.write("cell", {"status": "ok", "by_number": {10: "ten", 2: "two"}}, items)
    assert store.done("cell")
    assert store.items("cell") == items


def test_a_second_result_replaces_the_first_and_its_items(tmp_path):
    store = ResultStore(tmp_path)
    for value in ("old", "new"):
        store.write("cell", {**RECORD, "value": value}, [{"id": "1", "output": value}])
    assert store.read("cell")["value"] == "new"
    assert store.items("cell") == [{"id": "1", "output": "new"}]
    assert len(list(store.results.iterdir())) == 2
    store.write("cell", {"status": "failed"})
    assert [path.name for path in store.results.iterdir()] == ["cell.json"]


@given(
    seconds=st.floats(0, 1e6),
    where=st.sampled_from(
        ["seconds", "cost.train_seconds", "evaluation.test.seconds", "cost.peak_memory_mb"]
    ),
)
def test_content_leaves_out_time_and_machine_and_nothing_else(seconds, where):
    def record(value):
        data = {
            "seconds": 0.0,
            "cost": {"train_seconds": 0.0, "adapter_bytes": 4, "peak_memory_mb": 0.0},
            "evaluation": {"test": {"seconds": 0.0, "accuracy": 0.5}},
            "losses": [1.0, {"seconds": 0.0}],
        }
        *blocks, leaf = where.split(".")
        inner = data
        for block in blocks:
            inner = inner[block]
        inner[leaf] = value
        return data

    assert content(record(seconds)) == content(record(0.0))
    assert content(record(0.0)) == {
        "cost": {"adapter_bytes": 4},
        "evaluation": {"test": {"accuracy": 0.5}},
        "losses": [1.0, {}],
    }
