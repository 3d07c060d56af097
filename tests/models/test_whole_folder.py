"""Folders that are whole or absent, whatever ends their writer, and no step of the clock takes from it."""

import os
import time
from pathlib import Path

import pytest

from manifold_lora.models.saved.whole_folder import sweep, whole_folder

DAY = 86_400.0


def fill(path: Path, text: str) -> None:
    with whole_folder(path) as work:
        (work / "file").write_text(text)


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_what_was_there_stays_whatever_ends_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, end: type[BaseException]
) -> None:
    """A signal may come between the two renames, when nothing bears the folder's name."""
    path, replace, calls = tmp_path / "adapter", os.replace, []
    fill(path, "old")

    def ended(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == moment:
            raise end
        replace(source, target)

    monkeypatch.setattr(os, "replace", ended)
    with pytest.raises(end):
        fill(path, "new")
    assert (path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["adapter"]


@pytest.mark.parametrize("cut", [False, True], ids=["writing", "between the renames"])
def test_a_stepped_clock_takes_no_folder_from_its_writer(tmp_path: Path, cut: bool) -> None:
    with whole_folder(tmp_path / "adapter") as work:
        (work / "file").write_text("new")
        if cut:
            (work.parent / "old").mkdir()
        for entry in (work, work / "file", work.parent):
            os.utime(entry, (time.time() - DAY,) * 2)
        sweep(tmp_path)
        assert not (tmp_path / "adapter").exists()
        if cut:
            (work.parent / "old").rmdir()
    assert (tmp_path / "adapter" / "file").read_text() == "new"


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    work = tmp_path / ".adapter.x.folder-tmp"
    (work / "new").mkdir(parents=True)
    (work / "lock").touch()
    sweep(tmp_path)
    assert work.exists()
    for entry in (work / "new", work / "lock", work):
        os.utime(entry, (time.time() - DAY,) * 2)
    sweep(tmp_path)
    assert not work.exists()
