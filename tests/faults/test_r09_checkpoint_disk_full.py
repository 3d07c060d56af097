"""R9: a disk that fills while a checkpoint or an adapter is written: the path is named, the old one stays."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from fault_runs import load_small, save_base

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.executors.fork_server import PRELOAD
from manifold_lora.experiments.training.checkpoints import CheckpointError, Checkpoints
from manifold_lora.experiments.training.snapshot import TENSORS
from manifold_lora.models.load import load_adapter
from manifold_lora.models.saved import whole_folder
from manifold_lora.models.saved.save import save_adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def fill_up(base: Path, folder: Path, answer: Connection) -> None:
    """A child whose files may not grow beyond 20 kB after the first checkpoint, as on a full disk."""
    small = load_small("lora", base, checkpoint_every=2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def on_step(step: int, loss: float) -> None:
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    try:
        small.fit(on_step, Checkpoints(folder))
    except CheckpointError as error:
        answer.send(str(error))
    answer.send("")


def test_a_checkpoint_that_does_not_fit(base: Path, tmp_path: Path, tally) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    ours, theirs = context.Pipe(duplex=False)
    folder = tmp_path / "run ü"
    process = context.Process(target=fill_up, args=(base, folder, theirs), daemon=True)
    process.start()
    message = ours.recv()
    process.join()
    assert os.strerror(errno.EFBIG) in message
    newest = Checkpoints(folder).newest()
    checks = [
        str(folder / "checkpoint-000004") in message,
        "the checkpoint of step 2 stays" in message,
        newest is not None and newest.step == 2,
        [path.name for path in folder.iterdir()] == ["checkpoint-000002"],
    ]
    tally("R9", "checkpoint: path reported, the one before valid, nothing half-written", sum(checks), 4)


def no_space_at(call: int) -> Callable[[Path], None]:
    """An fsync that fails as a full disk does, from its given call on."""
    calls = iter(range(1, 1_000_000))

    def fsync(path: Path) -> None:
        if next(calls) >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    return fsync


def test_an_adapter_that_does_not_fit(
    base: Path, tmp_path: Path, tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_small("direct", base)
    folder = save_adapter(small.model, tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = 0
    for call in range(1, len(before) + 2):
        monkeypatch.setattr(whole_folder, "_fsync", no_space_at(call))
        with pytest.raises(ManifoldLoraError, match="No space left") as caught:
            save_adapter(small.model, folder)
        message = str(folder) in str(caught.value)
        kept += message and {path.name: path.read_bytes() for path in folder.iterdir()} == before
        kept -= len(list(tmp_path.iterdir())) - 1
    monkeypatch.undo()
    load_adapter(folder, require_manifest=True)
    tally("R9", "adapter: path reported, the old one valid, at every flush", kept, len(before) + 1)


def test_what_a_killed_writer_left_is_removed_at_the_next_start(tmp_path: Path, tally) -> None:
    """Whatever the moment of the kill: while it was filled, and between the two renames."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, {TENSORS: b"old"})
    left = tmp_path / ".checkpoint-000004.abc.folder-tmp"
    (left / "new").mkdir(parents=True)
    (left / "new" / TENSORS).write_bytes(b"half")
    between = tmp_path / ".checkpoint-000002.xyz.folder-tmp"
    between.mkdir()
    (tmp_path / "checkpoint-000002").rename(between / "old")
    newest = checkpoints.newest()
    checks = [
        newest is not None and newest.step == 2,
        [p.name for p in tmp_path.iterdir()] == ["checkpoint-000002"],
    ]
    adapters = tmp_path / ".adapter.abc.folder-tmp"
    adapters.mkdir()
    whole_folder.sweep(tmp_path)
    checks.append(adapters.exists())  # a writer may be at work there
    os.utime(adapters, (0, 0))
    whole_folder.sweep(tmp_path)
    checks.append(not adapters.exists())
    tally("R9", "stale temp folders of checkpoints and adapters removed", sum(checks), 4)
