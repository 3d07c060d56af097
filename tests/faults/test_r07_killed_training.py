"""R7: training killed by SIGKILL at random steps and resumed gives the weights of an uninterrupted run."""

import shutil
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
from fault_runs import difference, in_child, save_base

from manifold_lora.experiments.checkpoints import Checkpoints
from manifold_lora.experiments.executors.fork_server import PRELOAD

STEPS = {"steps": 12, "checkpoint_every": 2}
Launch = Callable[[str, Path, int], bool]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def launch(base: Path) -> Launch:
    """``launch(arm, folder, kill_at)`` trains in a process and says whether it ended by itself."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))

    def run(arm: str, folder: Path, kill_at: int = 0, delay: float = 0.0) -> bool:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=in_child, args=(arm, base, folder, theirs, STEPS), daemon=True)
        process.start()
        theirs.close()
        try:
            while ours.recv() != kill_at:
                pass
            time.sleep(delay)
            process.kill()
        except EOFError:
            pass
        process.join()
        return process.exitcode == 0

    return run


def resumed_equals_uninterrupted(launch: Launch, arm: str, folder: Path, kills: int) -> int:
    random = Random(f"R7 {arm}")
    assert launch(arm, folder / "whole", 0)
    equal = 0
    for kill in range(kills):
        killed = folder / f"killed {kill}"
        # Up to some steps later, so that kills hit the middle of a step and of a checkpoint being written.
        assert not launch(arm, killed, random.randint(1, 10), random.uniform(0, 0.02))
        before = Checkpoints(killed / "checkpoints" / "cell").newest()
        assert launch(arm, killed, 0)
        equal += difference(folder / "whole", killed) == 0.0
        assert before is None or before.step < 12
        shutil.rmtree(killed)
    return equal


@pytest.mark.parametrize("arm", ["lora", "direct", "boost"])
def test_killed_once(arm: str, launch: Launch, tmp_path: Path, tally) -> None:
    tally("R7", f"{arm}: one kill -9, resumed", resumed_equals_uninterrupted(launch, arm, tmp_path, 1), 1)


@pytest.mark.slow
def test_killed_ten_times(arm: str, launch: Launch, tmp_path: Path, tally) -> None:
    equal = resumed_equals_uninterrupted(launch, arm, tmp_path, 10)
    tally("R7", f"{arm}: kill -9 at 10 random steps, resumed, max difference 0.0", equal, 10)
