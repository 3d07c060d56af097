"""The ledger believes nothing that does not verify."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_lora.experiments.ledger import Ledger

RECORD = {"status": "ok", "reason": "", "evaluation": {"test": {"accuracy": 0.5}}}
ITEMS = [
    {"id": "1", "output": "vier = 4 \u2713\n", "correct": True},
    {"id": "2", "output": "", "correct": False},
]


def test_what_is_written_is_read_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.write("cell", RECORD, ITEMS)
    assert ledger.done("cell")
    assert ledger.read("cell").items() >= RECORD.items()
    assert ledger.items("cell") == ITEMS
    assert [record["cell"] for record in ledger.all()] == ["cell"]
    assert not list(tmp_path.rglob("*.tmp"))


@settings(max_examples=60)
@given(where=st.floats(0, 0.999), bit=st.integers(0, 7), which=st.sampled_from(["result", "items"]))
def test_one_flipped_bit_or_a_cut_makes_a_cell_undone(tmp_path_factory, where, bit, which):
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    ledger.write("cell", RECORD, ITEMS)
    path = ledger.path("cell") if which == "result" else ledger.items_path("cell")
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    for damaged in (data[:place], data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]):
        path.write_bytes(damaged)
        before = json.loads(data) if which == "result" else None
        if which == "result" and _same(damaged, before):
            continue  # white space between tokens carries no figure
        assert ledger.read("cell") is None
        assert not ledger.done("cell")


def _same(damaged, before):
    try:
        return json.loads(damaged) == before
    except ValueError:
        return False


def test_nan_is_never_written(tmp_path):
    ledger = Ledger(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        ledger.write("cell", {**RECORD, "loss": float("nan")})
    assert not ledger.path("cell").exists()


WRITER = """
import sys
from pathlib import Path
from manifold_lora.experiments.ledger import Ledger
ledger, turn = Ledger(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    turn += 1
    ledger.write("cell", {"status": "ok", "turn": turn, "pad": "x" * 200_000})
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    ledger, broken = Ledger(tmp_path), 0
    for turn in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.013 * turn)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        broken += ledger.path("cell").exists() and not ledger.done("cell")
    assert ledger.done("cell")
    assert broken == 0
