"""Points on a Dask cluster: a running one, or one that is begun on this machine and ended."""

from __future__ import annotations

import logging
import pickle
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.sweeping.backends import MOST_DEATHS, Done
from ttc_sim.sweeping.backends.reaching import WITHIN_S, check_reachable, library, lost, not_installed, unreachable
from ttc_sim.sweeping.point import Row, Setting, carry_out_elsewhere
from ttc_sim.sweeping.varying import Point, shown


@contextmanager
def on_dask(setting: Setting, points: Mapping[int, Point], workers: int | None, address: str | None) -> Iterator[Done]:
    """As :data:`ttc_sim.sweeping.backends.Backend`."""
    distributed: Any = library("distributed", "dask")
    with _quietly(), _client(distributed, workers, address) as client:
        done = _done(distributed, client, setting, points, workers)
        try:
            yield _while_it_lasts(done, address)
        finally:
            done.close()  # type: ignore[attr-defined]


@contextmanager
def _quietly() -> Iterator[None]:
    """What Dask says of workers that come and go is nothing that its user has to act on."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _client(distributed: Any, workers: int | None, address: str | None) -> Iterator[Any]:
    if address is not None:
        check_reachable(address, "tcp://10.0.0.5:8786", b"", "Dask")
        try:
            client = distributed.Client(address, timeout=WITHIN_S, set_as_default=False)
        except (OSError, ValueError, TypeError, TimeoutError):
            raise unreachable(address, "what answers there is none of Dask's") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=WITHIN_S)
            except TimeoutError:
                raise unreachable(address, "it has no workers") from None
            yield client
        return
    folder = tempfile.mkdtemp(prefix="ttc-sim-dask-")
    try:
        with (
            distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.CRITICAL + 1,
                local_directory=folder,
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _while_it_lasts(done: Done, address: str | None) -> Done:
    try:
        yield from done
    except OSError:  # of connections
        raise lost(address) from None


def _done(distributed: Any, client: Any, setting: Setting, points: Mapping[int, Point], workers: int | None) -> Done:
    name = uuid.uuid4().hex
    waiting, running = list(points.items())[::-1], dict[Any, int]()
    times_lost = Counter[int]()
    given = pickle.dumps(setting)  # as bytes: each process reads them once
    shared = client.scatter(given, broadcast=True, hash=False)
    try:
        while waiting or running:
            threads = sum(client.nthreads().values())
            while waiting and len(running) < (workers or max(threads, 1)) + 2:  # so that no worker waits for the next
                number, point = waiting.pop()
                running[client.submit(_carry_out, shared, name, point, pure=False)] = number
            for one in _first_of(distributed, client, running):
                number = running.pop(one)
                row = _row(distributed, one, number, points[number])
                if row is not None:
                    yield number, row
                    continue
                times_lost[number] += 1
                if times_lost[number] >= MOST_DEATHS:
                    raise _died(number, points[number])
                # Its worker died, or all that had what the points have in common.
                waiting.append((number, points[number]))
                shared = client.scatter(given, broadcast=True, hash=False)
    finally:
        client.cancel(list(running), force=True)


def _first_of(distributed: Any, client: Any, running: Mapping[Any, int]) -> list[Any]:
    """Those that are done, once any is."""
    with client.as_current():
        return list(distributed.wait(list(running), return_when="FIRST_COMPLETED").done)


def _carry_out(given: bytes, name: str, point: Point) -> Row:
    return carry_out_elsewhere(lambda: pickle.loads(given), name, point)


def _row(distributed: Any, one: Any, number: int, point: Point) -> Row | None:
    """The row; ``None`` where it was lost."""
    try:
        row: Row = one.result()
    except distributed.client.FutureCancelledError:
        return None
    except distributed.scheduler.KilledWorker:
        raise _died(number, point) from None
    except Exception as error:
        raise (not_installed(error) or error) from None
    return row


def _died(number: int, point: Point) -> InputError:
    return InputError(
        "sweep", f"point {number} ({shown(point)})", "workers that died", "workers of the cluster that live"
    )


__all__ = ["on_dask"]
