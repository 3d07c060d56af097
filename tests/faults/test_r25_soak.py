"""R25: a sweep of many cells under a rain of kills: all done, nothing corrupt, memory flat."""

import random
import signal
import statistics
import time

import psutil
import pytest
from fault_drivers import contents, finish, start, sweep, under_way, unreadable, wait_until

LIMIT = 600


class Soak:
    """Two drivers on one sweep: one that is killed and started again, and one that only loses workers."""

    def __init__(self, folder, cells, seed):
        self.folder, self.flags = folder, ("--cells", cells, "--seconds", 0.15, "--jobs", 2)
        self.random = random.Random(seed)
        self.steady, self.victim = self._start(), self._start()
        self.memory, self.killed = [], {"workers": 0, "drivers": 0}

    def run(self):
        end = time.monotonic() + LIMIT
        # On a busy machine all cells may be done between two of the rain's drops.
        wait_until(lambda: self._kill_a_worker() or self.killed["workers"])
        while self.steady.poll() is None and time.monotonic() < end:
            time.sleep(self.random.expovariate(1 / 0.4))
            self._sample()
            self._kill_a_worker()
            if self.random.random() < 0.3:
                self._kill_the_driver()
        self.victim.kill()
        for driver in (self.steady, self.victim):
            driver.kill()
            finish(driver)

    def _start(self):
        return start(self.folder, *self.flags)

    def _sample(self):
        try:
            self.memory.append(psutil.Process(self.steady.pid).memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            return

    def _kill_a_worker(self):
        workers = under_way(self.folder)
        if workers:
            try:
                psutil.Process(self.random.choice(workers)).send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                return
            self.killed["workers"] += 1

    def _kill_the_driver(self):
        self.victim.send_signal(signal.SIGKILL)
        finish(self.victim)
        self.killed["drivers"] += 1
        self.victim = self._start()


@pytest.mark.timeout(LIMIT + 200)
@pytest.mark.parametrize("cells", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_everything_is_done_whatever_is_killed(tmp_path, tally, cells):
    soak = Soak(tmp_path, cells, seed=cells)
    soak.run()
    # A cell that lost its worker three times has a record that says so; a rerun tries it again.
    code, said = sweep(tmp_path, *soak.flags)
    assert code == 0, said
    assert soak.killed["workers"] > 0
    assert unreadable(tmp_path) == []
    quarter = max(len(soak.memory) // 4, 1)
    growth = statistics.median(soak.memory[-quarter:]) - statistics.median(soak.memory[1 : quarter + 1])
    assert growth < 10, f"the driver grew by {growth:.0f} MB"
    message = f"soak, {soak.killed['workers']} workers and {soak.killed['drivers']} drivers killed"
    tally("R25", f"{message}, driver grew by {growth:.1f} MB", len(contents(tmp_path)), cells)
