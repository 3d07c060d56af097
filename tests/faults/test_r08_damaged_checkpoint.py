"""R8: a damaged newest checkpoint is set aside with its reason; the one before it is resumed from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_runs import load_small, save_base

from manifold_lora.experiments.training.checkpoints import Checkpoints
from manifold_lora.experiments.training.snapshot import TENSORS
from manifold_lora.experiments.training.train import TrainReport

NEWEST = "checkpoint-000010"
Damage = Callable[[Path], None]


def truncated(tenth: int) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / TENSORS
        data = file.read_bytes()
        file.write_bytes(data[: len(data) * tenth // 10])

    return damage


def flipped(name: str, place: float) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(place * len(data))] ^= 16
        (folder / name).write_bytes(data)

    return damage


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


THIRTEEN: dict[str, Damage] = {
    **{f"truncated at {tenth}0 %": truncated(tenth) for tenth in range(10)},
    "a file missing": lambda folder: (folder / "state.json").unlink(),
    "empty folder": emptied,
    "one flipped bit": flipped(TENSORS, 0.7),
}
MORE: dict[str, Damage] = {
    "manifest missing": lambda folder: (folder / "checkpoint.json").unlink(),
    "manifest cut": lambda folder: (folder / "checkpoint.json").write_text('{"format": 1'),
    "manifest of another step": lambda folder: shutil.copytree(
        folder.with_name("checkpoint-000008"), folder, dirs_exist_ok=True
    ),
    "manifest flipped": flipped("checkpoint.json", 0.5),
    "state flipped": flipped("state.json", 0.5),
    "trainer state flipped": flipped("trainer_state.json", 0.5),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


class Stopped(Exception):
    """The run is interrupted."""


def train(base: Path, folder: Path, stop_at: int = 0) -> tuple[TrainReport, dict[str, torch.Tensor]]:
    small = load_small("direct", base, checkpoint_every=2)

    def on_step(step: int, loss: float) -> None:
        if step == stop_at:
            raise Stopped

    report = small.fit(on_step, Checkpoints(folder))
    return report, {name: p for name, p in small.model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def uninterrupted(base: Path, tmp_path_factory: pytest.TempPathFactory):
    return train(base, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def interrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 8 and 10 of 12."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Stopped):
        train(base, folder, stop_at=11)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-000008", NEWEST]
    return folder


@pytest.mark.parametrize(
    ("what", "damages"),
    [("truncation, missing file, empty folder, flipped bit", THIRTEEN), ("manifest and state", MORE)],
    ids=["thirteen", "more"],
)
def test_the_one_before_is_resumed_from(
    what: str,
    damages: dict[str, Damage],
    base: Path,
    interrupted: Path,
    uninterrupted: tuple[TrainReport, dict[str, torch.Tensor]],
    tmp_path: Path,
    tally,
) -> None:
    passed = 0
    for place, damage in enumerate(damages.values()):
        folder = tmp_path / str(place)
        shutil.copytree(interrupted, folder)
        damage(folder / NEWEST)
        report, weights = train(base, folder)
        expected, expected_weights = uninterrupted
        equal = all(torch.equal(weights[name], value) for name, value in expected_weights.items())
        message = len(report.set_aside) == 1 and report.set_aside[0].startswith(NEWEST)
        passed += report.resumed_from == 8 and message and equal and report.losses == expected.losses
    tally("R8", f"newest checkpoint damaged ({what}): the one before is used", passed, len(damages))


def test_without_any_that_verifies_the_run_starts_anew(
    base: Path, interrupted: Path, tmp_path: Path, tally
) -> None:
    folder = tmp_path / "both"
    shutil.copytree(interrupted, folder)
    for checkpoint in folder.iterdir():
        emptied(checkpoint)
    report, _ = train(base, folder)
    tally(
        "R8",
        "both damaged: from the start, saying so twice",
        int(report.resumed_from == 0) + len(report.set_aside),
        3,
    )
