"""Writers killed -9 while they write: ``FOLDER KILLS SEED atomic|plain`` prints [unreadable, left]."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from manifold_lora.experiments.results.store import ResultStore

PAD = "x" * 400_000


def write_forever(store, plain):
    turn = 0
    while True:
        turn += 1
        record = {"status": "ok", "reason": "", "turn": turn, "pad": PAD}
        if plain:
            store.results.mkdir(parents=True, exist_ok=True)
            store.path("cell").write_text(json.dumps(record))
        else:
            store.write("cell", record, [{"id": str(turn), "output": PAD[: 1000 * (turn % 50)]}])


def whole(store, plain):
    if not plain:
        return not store.path("cell").exists() or store.done("cell")
    try:
        json.loads(store.path("cell").read_text())
    except ValueError:
        return False
    return True


def main(folder, kills, seed, plain):
    store, moments, bad = ResultStore(folder), random.Random(seed), 0
    for _ in range(kills):
        writer = os.fork()
        if writer == 0:
            write_forever(store, plain)
        time.sleep(0.005 + moments.expovariate(1 / 0.02))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        bad += not whole(store, plain)
    print(json.dumps([bad, len(list(folder.rglob("*.tmp")))]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "plain")
