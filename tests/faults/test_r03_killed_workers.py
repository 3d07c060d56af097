"""R3: workers killed -9 cost their own cell one attempt, on the local executor and on Ray."""

import signal

import psutil
import pytest
from fault_drivers import contents, finish, start, under_way, wait_until
from fault_jobs import notes

from manifold_lora.experiments.results.store import ResultStore

CELLS = 24


def _kill(folder, after, choose):
    """Kill what ``choose`` makes of a cell's process, once ``after`` cells have ended."""
    wait_until(lambda: len(notes(folder, "end")) >= after and under_way(folder))
    choose(psutil.Process(under_way(folder)[-1])).send_signal(signal.SIGKILL)


def _kill_at_work(folder, after):
    """As ``_kill``, of a cell itself, and of one whose result is not written yet."""
    killed = False
    while not killed:
        wait_until(lambda: len(notes(folder, "end")) >= after and under_way(folder))
        killed = _killed_before_its_result(folder, under_way(folder))


def _killed_before_its_result(folder, processes):
    cells = {pid: cell for cell, pid in notes(folder, "start")}
    for pid in reversed(processes):
        try:
            process = psutil.Process(pid)
            process.suspend()  # it cannot finish between the look and the blow
            lost = process.status() != psutil.STATUS_ZOMBIE and ResultStore(folder).read(cells[pid]) is None
            process.send_signal(signal.SIGKILL if lost else signal.SIGCONT)
        except psutil.NoSuchProcess:
            continue
        if lost:
            return True
    return False


def _parent(word):
    return lambda cell: next(p for p in cell.parents() if word in " ".join(p.cmdline()))


def test_three_killed_workers_of_this_machine(tmp_path, tally):
    driver = start(tmp_path, "--cells", CELLS, "--seconds", 0.3, "--jobs", 4)
    for after in (2, 8, 14):
        _kill_at_work(tmp_path, after)
    code, said = finish(driver)
    assert code == 0, said
    assert len(notes(tmp_path, "start")) >= CELLS + 3
    tally("R3", "SIGKILL of 3 workers, local", len(contents(tmp_path)), CELLS)


def test_a_killed_fork_server_is_replaced(tmp_path, tally):
    driver = start(tmp_path, "--cells", CELLS, "--seconds", 0.3, "--jobs", 4)
    for after in (2, 12):
        _kill(tmp_path, after, _parent("forkserver"))
    code, said = finish(driver)
    assert code == 0, said
    tally("R3", "SIGKILL of the fork server, twice, local", len(contents(tmp_path)), CELLS)


@pytest.mark.slow
def test_three_killed_workers_of_ray(tmp_path, tally):
    driver = start(tmp_path, "--cells", CELLS, "--seconds", 0.5, "--jobs", 3, "--executor", "ray")
    _kill(tmp_path, 2, _parent("ray::"))
    tree = psutil.Process(driver.pid).children(recursive=True)
    open_to = {place.laddr.ip for process in tree for place in _listening(process)}
    _kill(tmp_path, 8, _parent("ray::"))
    _kill(tmp_path, 14, lambda cell: cell)
    code, said = finish(driver)
    assert code == 0, said
    assert open_to <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert open_to
    tally("R3", "SIGKILL of 3 workers, Ray", len(contents(tmp_path)), CELLS)


def _listening(process):
    try:
        return [place for place in process.net_connections("inet") if place.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []
