"""Points on a Ray cluster: a running one, or one that is begun on this machine and ended."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.sweeping.backends import MOST_DEATHS, Done
from ttc_sim.sweeping.backends.reaching import check_reachable, library, not_installed, unreachable
from ttc_sim.sweeping.point import Row, Setting, carry_out_elsewhere
from ttc_sim.sweeping.varying import Point, shown

_GREETING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
)  # of HTTP/2, with empty settings (RFC 9113, 3.4)
_STORE_BYTES = 128 * 2**20  # for the few megabytes that all points have in common
_QUIETLY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning of Ray's about GPUs
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
# A cluster that is begun here lets nobody else in; Ray would write the token for that into the home directory.
_OURS_ALONE = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
_LONGEST_PATH = 40  # of the folder that Ray's sockets stand in, whose own names take most of the 107 letters allowed


@contextmanager
def on_ray(setting: Setting, points: Mapping[int, Point], workers: int | None, address: str | None) -> Iterator[Done]:
    """As :data:`ttc_sim.sweeping.backends.Backend`."""
    ray: Any = library("ray", "ray")
    if ray.is_initialized():  # by who called
        if address is not None:
            raise InputError("sweep", "address", address, "none: this program is connected to a Ray cluster already")
        yield _done(ray, setting, points, workers)
        return
    with _connected(ray, workers, address):
        yield _done(ray, setting, points, workers)


@contextmanager
def _connected(ray: Any, workers: int | None, address: str | None) -> Iterator[None]:
    folder = None
    settings = _QUIETLY if address is not None else {**_QUIETLY, **_OURS_ALONE}
    before = {name: os.environ.get(name) for name in (*settings, "RAY_AUTH_MODE")}  # which Ray sets itself
    os.environ.update(settings)
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False, "include_dashboard": False}
    try:
        if address is None:
            usual = tempfile.gettempdir()
            folder = tempfile.mkdtemp(prefix="ttc", dir=usual if len(usual) < _LONGEST_PATH else "/tmp")
            ray.init("local", num_cpus=workers, object_store_memory=_STORE_BYTES, _temp_dir=folder, **quiet)
        else:
            if address != "auto":
                check_reachable(address, "10.0.0.5:6379, or ray://10.0.0.5:10001", _GREETING, "Ray")
            quiet.pop("include_dashboard")
            try:
                with _unheard():
                    ray.init(address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, SystemExit, ray.exceptions.RayError):
                what = "what answers there is none of Ray's, or wants the token of RAY_AUTH_TOKEN"
                what = "none runs on this machine" if address == "auto" else what
                raise unreachable(address, what) from None
        with _unsaid():
            yield
    finally:
        ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Of workers that die, Ray prints several lines each, though all is well: there is no public way to have it not to."""
    driver: Any = importlib.import_module("ray._private.worker")
    before = getattr(driver, "_worker_logs_enabled", None)
    if before is not None:
        driver._worker_logs_enabled = False
    try:
        yield
    finally:
        if before is not None:
            driver._worker_logs_enabled = before


@contextmanager
def _unheard() -> Iterator[None]:
    """Ray's own code writes to standard error, past Python, for as long as it tries to connect."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _done(ray: Any, setting: Setting, points: Mapping[int, Point], workers: int | None) -> Done:
    cpus = int(ray.cluster_resources().get("CPU", 1))
    most = workers or max(cpus, 1)
    shared = ray.put(setting)
    name = shared.hex()
    # A worker that dies is replaced, and its point simulated again.
    task = ray.remote(num_cpus=1, max_retries=MOST_DEATHS - 1)(_carry_out)
    waiting, running = list(points.items())[::-1], dict[Any, int]()
    try:
        while waiting or running:
            while waiting and len(running) < most + 2:  # so that no worker waits for the next
                number, point = waiting.pop()
                running[task.remote([shared], name, point)] = number
            done, _ = ray.wait(list(running), num_returns=1)
            for one in done:
                number = running.pop(one)
                yield number, _row(ray, one, number, points[number])
    finally:
        for one in running:
            ray.cancel(one, force=False)


def _carry_out(shared: list[Any], name: str, point: Point) -> Row:
    """On a worker: what all points have in common comes once."""
    import ray

    return carry_out_elsewhere(lambda: ray.get(shared[0]), name, point)


def _row(ray: Any, one: Any, number: int, point: Point) -> Row:
    try:
        row: Row = ray.get(one)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None) or error
        raise (not_installed(error) or cause) from None
    except ray.exceptions.RayError as error:
        raise InputError(
            "sweep", f"point {number} ({shown(point)})", _first_line(error), "workers of the cluster that live"
        ) from None
    return row


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


__all__ = ["on_ray"]
