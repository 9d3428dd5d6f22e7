"""Cases in processes of their own, so that one that hangs or takes its process down is a finding like any other."""

from __future__ import annotations

import faulthandler
import multiprocessing as mp
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO

from fuzzing.case import Outcome, carried_out, kept, kind_of

TIMEOUT_S = 60.0
WAITS = 10
"""A process may wait for others on a busy machine for that many times as long as it may work."""
MOST_MEMORY = 8 << 30
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# As many workers as processors: threads of one would only wait for those of another.
ALONE = {"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
START_S = 60.0
CASES_EACH = 5000
"""After so many a worker is replaced: what leaks must not pile up."""


CarryOut = Callable[[str, int, Path, Path], Outcome]


@dataclass(frozen=True)
class Job:
    """What is the same for every case.

    Attributes:
        corpus: folder of good inputs; findings: folder for what is found.
        kinds: only these in turn, if any; timeout_s: a case that works for longer hangs.
        carry_out: makes a case and carries it out.
    """

    corpus: Path
    findings: Path
    kinds: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S
    carry_out: CarryOut = carried_out


def _work(connection: Connection, job: Job, at: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["COLUMNS"] = "120"
    where = (at / "hang").open("w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say of their own panics
    while True:
        try:
            seed = connection.recv()
        except EOFError:
            return
        kind = kind_of(seed) if not job.kinds else job.kinds[seed % len(job.kinds)]
        folder = at / "case"
        shutil.rmtree(folder, ignore_errors=True)
        where.seek(0)
        where.truncate()
        connection.send((kind, seed))
        _watch(job.timeout_s, where)
        outcome = job.carry_out(kind, seed, job.corpus, folder)
        _watch(0.0, where)
        if outcome.found:
            kept(outcome, job.corpus, folder, job.findings)
        connection.send(outcome)


def _watch(timeout_s: float, where: IO[str]) -> None:
    """End the process, with a trace of where it was, after so many seconds of its own, or a while of waiting; not at all at 0."""
    if hasattr(signal, "SIGPROF"):
        faulthandler.register(signal.SIGPROF, file=where, chain=True)
        signal.setitimer(signal.ITIMER_PROF, timeout_s)
    if timeout_s:
        faulthandler.dump_traceback_later(WAITS * timeout_s, exit=True, file=where)
    else:
        faulthandler.cancel_dump_traceback_later()


@dataclass
class _Worker:
    """A process and what it is at."""

    job: Job
    at: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ttc-sim-fuzz-", dir=IN_MEMORY)))
    cases: int = 0
    now: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = mp.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.job, self.at))
        before = os.environ.copy()
        os.environ |= ALONE
        self.process.start()
        os.environ.clear()
        os.environ |= before
        other.close()
        self.cases, self.now = 0, None

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def died(self) -> Outcome | None:
        """What came of the case that it was at."""
        self.process.join(5)
        code = self.process.exitcode
        if self.now is None:
            return None
        trace = (self.at / "hang").read_text() if (self.at / "hang").is_file() else ""
        ours = [line for line in trace.splitlines() if "/ttc_sim/" in line]
        place = ours[0].rpartition("/ttc_sim/")[2].replace('"', "") if ours else "no line of the project"
        hangs = bool(trace)
        outcome = Outcome(*self.now, "hang" if hangs else "crash", place if hangs else f"exit status {code}", trace)
        if (self.at / "case").is_dir():
            kept(outcome, self.job.corpus, self.at / "case", self.job.findings)
        return outcome


def outcomes(
    seeds: Iterator[int], job: Job, workers: int, until: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """What comes of each seed, in no order, until they are used up or time is."""
    each = [_Worker(job) for _ in range(workers)]
    busy: list[_Worker] = []

    def give(worker: _Worker) -> None:
        seed = None if until() else next(seeds, None)
        if seed is not None:
            worker.connection.send(seed)
            worker.cases += 1
            busy.append(worker)

    try:
        for worker in each:
            give(worker)
        while busy:
            ready = wait([worker.connection for worker in busy], timeout=job.timeout_s * WAITS + START_S)
            if not ready:
                for worker in busy:
                    worker.process.kill()  # not even the watchdog could end it
            for worker in [one for one in busy if one.connection in ready]:
                try:
                    said = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    outcome = worker.died()
                    worker.connection.close()
                    worker.start()
                    if outcome is not None:
                        yield outcome
                else:
                    if not isinstance(said, Outcome):
                        worker.now = said
                        continue
                    yield said
                    worker.now = None
                    if worker.cases >= CASES_EACH:
                        worker.stop()
                        worker.start()
                busy.remove(worker)
                give(worker)
    finally:
        for worker in each:
            worker.stop()
            shutil.rmtree(worker.at, ignore_errors=True)


def minutes(count: float) -> Callable[[], bool]:
    """Whether so many have passed since now."""
    end = time.monotonic() + 60 * count
    return lambda: time.monotonic() > end
