"""A sweep: the jobs of a folder that have no result yet are run, beside other drivers of the same folder."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from manifold_lora.experiments.executors.base import Executor, Job, Outcome
from manifold_lora.experiments.results.atomic import sweep_temporaries
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.runs.progress import CellProgress
from manifold_lora.experiments.sweeps.claims import PLACE, Claims, LockedWork
from manifold_lora.experiments.sweeps.heartbeat import DriverHeartbeat


class Sweep:
    """Jobs that each leave a result in the store of a folder.

    A job's work writes its own result, with status ``ok``; for one that ends otherwise the sweep writes a
    record with status, reason, traceback and the job's settings. Jobs with a verified ``ok`` result are not
    run. Several drivers may run the same sweep: each job is claimed before it starts, and a driver that finds
    all that is left claimed waits for the others' results.

    Args:
        folder: where results and claims lie.
        jobs: the whole sweep, each job after the one it needs.
        executor: what runs them.
        driver: this driver's heartbeat in the folder, entered.
        watch: receives every step and end.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job],
        executor: Executor,
        driver: DriverHeartbeat,
        watch: CellProgress,
    ) -> None:
        self.store, self.claims = ResultStore(folder), Claims(folder, driver)
        self.jobs, self.executor, self.driver, self.watch = jobs, executor, driver, watch
        self._open = {job.id: job for job in jobs}
        self._known = frozenset(self._open)
        self._under_way: dict[str, Job] = {}
        self._status: dict[str, str] = {}
        self._old: dict[str, str] = {}
        self._looked: dict[str, tuple[object, Outcome | None]] = {}

    def run(self) -> dict[str, str]:
        """Run what is not done until every job has ended somewhere; returns their statuses by id."""
        folder = self.store.folder
        sweep_temporaries(folder, self.store.results, self.driver.folder, *folder.glob(f"{PLACE}/*"))
        self._look_back()
        names = {job.id: job.name or job.id for job in self._open.values()}
        self.watch.begin(names, len(self._status), len(self.jobs))
        with closing(self.executor.run(self._offers(), self.watch.step)) as outcomes:
            for outcome in outcomes:
                self._end(outcome)
        return dict(self._status)

    def _look_back(self) -> None:
        """Close what is done; what failed before is open again, unless in a driver that is still at work."""
        for name in list(self._open):
            record = self.store.read(name)
            if record is None:
                continue
            if record["status"] == "ok":
                self._status[name] = "ok"
                del self._open[name]
            elif record.get("driver") not in self.driver.others():
                self._old[name] = record["sha256"]

    def _offers(self) -> Iterator[Job | None]:
        """Jobs that this driver has claimed, one by one; None while there is none to claim."""
        reported = False
        while self._open or self._under_way:
            offered = False
            for job in list(self._open.values()):
                if self._claim(job):
                    offered = True
                    work = LockedWork(job.work, self.store.folder.absolute(), job.id, self.driver.token)
                    yield replace(job, work=work)
            if not (offered or self._under_way or reported) and self._open:
                self.watch.wait(len(self._open))
                reported = True
            if not offered:
                yield None

    def _claim(self, job: Job) -> bool:
        if self._ended_elsewhere(job):
            return False
        if job.needs in self._known and job.needs not in self._status:
            return False
        if not self.claims.take(job.id):
            return False
        # Looked at once more: between look and claim its driver may have finished it.
        if self._ended_elsewhere(job):
            self.claims.release(job.id)
            return False
        self._under_way[job.id] = self._open.pop(job.id)
        need = self._status.get(job.needs or "", "ok")
        if need != "ok":
            self._end(Outcome(job.id, "failed", f"the cell it needs ({job.needs}) ended as {need}"))
            return False
        return True

    def _ended_elsewhere(self, job: Job) -> bool:
        """Whether another driver has put a result there; closes the job."""
        outcome = self._look(job)
        if outcome is None:
            return False
        del self._open[job.id]
        self._close(outcome)
        return True

    def _look(self, job: Job) -> Outcome | None:
        """The result that another driver left, read when its file has changed."""
        try:
            stat = self.store.path(job.id).stat()
            sign = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            return None
        if self._looked.get(job.id, (None, None))[0] != sign:
            record = self.store.read(job.id)
            new = record is not None and self._old.get(job.id) != record["sha256"]
            outcome = Outcome(job.id, record["status"], record.get("reason", "")) if record and new else None
            self._looked[job.id] = (sign, outcome)
        return self._looked[job.id][1]

    def _end(self, outcome: Outcome) -> None:
        """Record how a job of this driver ended."""
        job = self._under_way.pop(outcome.id)
        if outcome.status != "ok" or not self.store.done(job.id):
            if not self.claims.holds(job.id):
                # This driver was taken for dead while it slept; the one that took over has the say.
                self._open[job.id] = job
                return
            if outcome.status == "ok":
                reason = "the process ended well but left no valid result"
                outcome = Outcome(job.id, "failed", reason, outcome.seconds)
            self.store.write(job.id, self._record(job, outcome))
        self.claims.release(job.id)
        self._close(outcome)

    def _record(self, job: Job, outcome: Outcome) -> dict[str, Any]:
        entry = {"status": outcome.status, "reason": outcome.reason, "traceback": outcome.traceback}
        return {**entry, "seconds": outcome.seconds, "driver": self.driver.token, **job.settings}

    def _close(self, outcome: Outcome) -> None:
        self._status[outcome.id] = outcome.status
        self.watch.end(outcome)


def work_of(jobs: Sequence[Job]) -> str:
    """What a driver of these jobs does, as one hash: drivers of the same sweep have the same."""
    return hashlib.sha256("\n".join(sorted(job.id for job in jobs)).encode()).hexdigest()
