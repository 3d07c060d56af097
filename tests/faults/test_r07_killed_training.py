"""R7: training killed by SIGKILL at random steps and resumed gives the weights of an uninterrupted run."""

import json
import shutil
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
from fault_runs import difference, in_child, save_base

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.executors.fork_server import PRELOAD
from manifold_lora.experiments.results.store import content
from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.trainer import GuardedTrainer

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


def test_the_same_command_goes_on(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tally
) -> None:
    """``manifold-lora train``, interrupted and given again, ends as if nothing had happened."""
    save = GuardedTrainer._save_checkpoint

    def interrupted(trainer: GuardedTrainer, *arguments: object) -> None:
        save(trainer, *arguments)
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt

    flags = ["--arm", "direct", "--model", str(base), "--task", "taxonomy", "--task.style", "equation"]
    flags += [
        "--task.limit",
        "24",
        "--adapter.rank",
        "2",
        "--train.steps",
        "6",
        "--train.checkpoint-every",
        "2",
    ]
    flags += ["--cache", str(tmp_path / "cache")]
    assert main(["train", *flags, "--output", str(tmp_path / "whole")]) == 0
    command = ["train", *flags, "--output", str(tmp_path / "resumed")]
    with monkeypatch.context() as patched:
        patched.setattr(GuardedTrainer, "_save_checkpoint", interrupted)
        assert main(command) == 130
    assert main(command) == 0
    whole, resumed = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "resumed")
    )
    checks = [
        "resumed from step 4" in capsys.readouterr().out,
        resumed["train"]["resumed_from"] == 4,
        content(whole) == content(resumed),
        not list((tmp_path / "resumed").glob("checkpoints/*")),
    ]
    tally("R7", "manifold-lora train, interrupted and given again: the same result", sum(checks), 4)
