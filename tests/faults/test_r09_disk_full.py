"""R9: a disk that fills while a result or a report is written: the path is named, the old file holds."""

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_drivers import contents, start, sweep, unreadable
from rich.console import Console

from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.results import atomic
from manifold_lora.experiments.results.atomic import (
    StorageError,
    sweep_temporaries,
    temporary_beside,
    write_text,
)
from manifold_lora.experiments.results.store import ResultStore

OLD = {"status": "ok", "reason": "", "value": "old"}


class SmallDisk:
    """A folder with little room; `fill` takes the rest of it and `grow` makes it roomy."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk takes root")

    def fill(self):
        free = os.statvfs(self.folder)
        with (self.folder / "filler").open("ab") as filler:
            filler.write(b"x" * (free.f_bavail * free.f_bsize))

    def grow(self):
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.folder)], check=True)


class FakeDisk:
    """A folder whose files cannot be written to their end once it is full."""

    def __init__(self, folder, monkeypatch):
        self.folder, self._patch = folder, monkeypatch
        folder.mkdir()

    def fill(self):
        def half(path, data):
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        self._patch.setattr(atomic, "write_through", half)

    def grow(self):
        self._patch.undo()


@pytest.fixture(params=["tmpfs", "simulated"])
def disk(request, tmp_path, monkeypatch):
    folder = tmp_path / "disk"
    if request.param == "simulated":
        yield FakeDisk(folder, monkeypatch)
        return
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _reported(error, path):
    text = str(error)
    return str(path) in text and "No space left on device" in text and "\n" not in text


def test_a_result(disk, tally):
    store = ResultStore(disk.folder)
    store.write("cell", OLD, [{"id": "1", "output": "old"}])
    disk.fill()
    named = 0
    for cell, items in (("cell", [{"id": "1", "output": "n" * 9000}]), ("cell", None), ("fresh", [])):
        with pytest.raises(StorageError) as caught:
            store.write(cell, {**OLD, "value": "new" * 3000}, items)
        named += _reported(caught.value, store.results / cell)
        assert store.read("cell")["value"] == "old"
        assert store.items("cell") == [{"id": "1", "output": "old"}]
        assert not unreadable(disk.folder)
    disk.grow()
    store.write("cell", {**OLD, "value": "new"}, [])
    assert store.read("cell")["value"] == "new"
    tally("R9", "disk full while a result is written: reported with its path, the old one holds", named, 3)


def test_a_report(disk, tally):
    where = Path(__file__).parents[1] / "experiments" / "conftest.py"
    spec = importlib.util.spec_from_file_location("small_results", where)
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    results = [small.result("lora", 1e-3, seed, [1, 0, 1, 0], 0.5) for seed in (0, 1)]
    small.fill(disk.folder, results)
    console = Console(quiet=True)
    assert write_report(disk.folder, console) == 0
    names = ("table.csv", "table.png")
    old = {name: (disk.folder / name).read_bytes() for name in names}
    named = 0
    for name in names:
        disk.fill()
        with pytest.raises(StorageError) as caught:
            write_report(disk.folder, console)
        named += _reported(caught.value, disk.folder / "table.csv")
        assert (disk.folder / name).read_bytes() == old[name]
        assert not unreadable(disk.folder)
    disk.grow()
    assert write_report(disk.folder, console) == 0
    tally("R9", "disk full while a report is written: reported with its path, the old one holds", named, 2)


def test_a_sweep_ends_with_the_path_and_goes_on_when_there_is_room(tmp_path, tally):
    disk = SmallDisk(tmp_path / "disk")
    try:
        code, said = sweep(disk.folder, "--cells", 60, "--seconds", 0.01, "--jobs", 3)
        assert code == 2
        assert _reported(said.strip(), disk.folder)
        kept = contents(disk.folder)
        assert 0 < len(kept) < 60
        disk.grow()
        assert sweep(disk.folder, "--cells", 60, "--seconds", 0.01, "--jobs", 3) == (0, "")
        done = contents(disk.folder)
        assert kept.items() <= done.items()
        assert not unreadable(disk.folder)
        tally("R9", "a sweep whose disk fills up, rerun with room", len(done), 60)
    finally:
        subprocess.run(["umount", "-l", str(disk.folder)], check=True)


LEAVES_ONE = """
import os, sys
from pathlib import Path
from manifold_lora.experiments.results.atomic import temporary_beside
temporary_beside(Path(sys.argv[1])).write_text("half")
os._exit(9)
"""


def test_temp_files_of_the_dead_go_at_the_next_start_and_those_of_the_living_stay(tmp_path, tally):
    results = ResultStore(tmp_path).results
    results.mkdir()
    for path in (results / "cell.json", tmp_path / "table.csv"):
        subprocess.run([sys.executable, "-c", LEAVES_ONE, str(path)], check=False)
    other = tmp_path / ".table.csv.elsewhere-1-1.abcd.tmp"
    unknown = results / ".cell.json.k3x9.tmp"
    for path in (other, unknown):
        path.touch()
        os.utime(path, (0, 0))
    mine = temporary_beside(results / "cell.json")
    young = results / ".cell.json.elsewhere-1-1.abcd.tmp"
    for path in (mine, young):
        write_text(path, "under way")
    stale = len(list(tmp_path.rglob("*.tmp"))) - 2
    driver = start(tmp_path, "--cells", 2)
    assert driver.wait(60) == 0
    driver.communicate()
    left = set(tmp_path.rglob("*.tmp"))
    assert left == {mine, young}
    tally("R9", "temp files of dead writers removed at the next start", stale, 4)
    assert sweep_temporaries(results) == []
