"""A cell is one driver's at a time; a dead driver's is taken over by exactly one."""

import json
import os
import threading
from pathlib import Path

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.owner import Owner
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.sweeps import claims as claims_module
from manifold_lora.experiments.sweeps.claims import Claims, LockedWork
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat


@pytest.fixture
def two(tmp_path):
    """The claims of two drivers of one folder."""
    with DriverHeartbeat(tmp_path, "same", 60) as one, DriverHeartbeat(tmp_path, "same", 60) as other:
        yield Claims(tmp_path, one), Claims(tmp_path, other)


def test_a_claimed_cell_is_refused_until_it_is_released(two):
    one, other = two
    assert one.take("cell")
    assert not other.take("cell")
    assert not one.take("cell")
    assert (one.holds("cell"), other.holds("cell")) == (True, False)
    other.release("cell")
    assert one.holds("cell")
    one.release("cell")
    assert not one.holds("cell")
    assert other.take("cell")
    assert not one.take("cell")


def test_of_many_that_ask_at_once_one_gets_it(tmp_path):
    def race(number):
        with DriverHeartbeat(tmp_path, "same", 60) as driver:
            start.wait()
            for place in range(20):
                if Claims(tmp_path, driver).take(str(place)):
                    taken.append(place)
            finish.wait()

    start, finish, taken = threading.Barrier(8), threading.Barrier(8), []
    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(20))


def test_one_that_woke_up_late_does_not_undo_a_takeover(tmp_path, two):
    one, other = two
    assert one.take("cell")
    one.driver.path.write_text("{}")  # as if it had died
    assert other.take("cell")
    one.release("cell")
    assert other.holds("cell")
    assert not one.holds("cell")


def test_a_slow_taker_that_was_overtaken_gives_way(tmp_path, two, monkeypatch):
    one, other = two
    create = Claims._create

    def slow(self, path):
        if self is one:  # between looking and claiming, another took it, died, and a third follows
            for number in (2, 3):
                create(other, path.with_name(str(number)))
        return create(self, path)

    monkeypatch.setattr(Claims, "_create", slow)
    assert not one.take("cell")
    assert other.holds("cell")


def test_a_file_system_without_links_does_as_well(two, monkeypatch):
    def no_links(*_):
        raise OSError(claims_module.errno.ENOTSUP, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    one, other = two
    assert one.take("cell")
    assert not other.take("cell")
    (one.folder / "half").mkdir()
    (one.folder / "half" / "1").touch()  # made, not yet written
    assert not other.take("half")


def test_a_queued_cell_is_not_begun_for_a_driver_that_lost_it(tmp_path, two):
    one, other = two
    one.take("cell")
    assert LockedWork(_work, tmp_path, "cell", one.driver.token)(7, _ignore) == 7
    with pytest.raises(ManifoldLoraError, match="taken for dead"):
        LockedWork(_work, tmp_path, "cell", other.driver.token)(7, _ignore)
    ResultStore(tmp_path).write("cell", {"status": "ok"})
    assert LockedWork(_work, tmp_path, "cell", one.driver.token)(7, _ignore) is None


def test_a_cell_stops_when_another_driver_has_taken_it_over(tmp_path, two, monkeypatch):
    monkeypatch.setattr(claims_module, "LOOK", 0.0)
    one, other = two
    one.take("cell")
    steps = []

    def overtaken(progress):
        for step in range(10):
            progress(step, 10)
            steps.append(step)
            if step == 4:
                one.driver.path.write_text("{}")
                assert other.take("cell")

    with pytest.raises(ManifoldLoraError, match="taken for dead"):
        LockedWork(overtaken, tmp_path, "cell", one.driver.token)(_ignore)
    assert steps == [0, 1, 2, 3, 4]


def _work(value, progress):
    progress(1, 1)
    return value


def _ignore(step, steps):
    pass


def test_two_drivers_with_other_cells_do_not_share_a_folder(tmp_path):
    with DriverHeartbeat(tmp_path, "this", 60) as one:
        with (
            pytest.raises(ManifoldLoraError, match="give another --output"),
            DriverHeartbeat(tmp_path, "that", 60),
        ):
            pass
        assert [path.stem for path in (tmp_path / ".drivers").iterdir()] == [one.token]
    with DriverHeartbeat(tmp_path, "that", 60):
        pass


def test_the_heart_beats_and_a_lost_file_comes_back(tmp_path):
    with DriverHeartbeat(tmp_path, "work", 0.06) as driver:
        os.utime(driver.path, (0, 0))
        _wait(lambda: driver.path.stat().st_mtime > 0)
        driver.path.unlink()
        _wait(driver.path.exists)
        assert json.loads(driver.path.read_text())["pid"] == os.getpid()
    assert not driver.path.exists()


def _wait(holds):
    for _ in range(500):
        if holds():
            return
        threading.Event().wait(0.01)
    pytest.fail("it never came to that")


def test_an_owner_is_known_by_machine_number_and_start():
    me = Owner.current()
    assert Owner.parse(me.tag) == me
    assert me.alive() is True
    assert Owner(me.host, me.pid, me.started - 100).alive() is False
    assert Owner(me.host, 2**22 + 1, me.started).alive() is False
    assert Owner("elsewhere", me.pid, me.started).alive() is None
    for text in ("json", "", "a-b-c", "host-12"):
        assert Owner.parse(text) is None
    assert Path(f".x.{me.tag}.tmp").name.count(".") == 3
