"""Points on processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ttc_sim.base.errors import InputError
from ttc_sim.base.workers import in_any_order
from ttc_sim.sweeping.backends import MOST_DEATHS, Done
from ttc_sim.sweeping.point import Setting, begin, carry_out
from ttc_sim.sweeping.varying import Point, shown


@contextmanager
def local(setting: Setting, points: Mapping[int, Point], workers: int | None, address: str | None) -> Iterator[Done]:
    """As :data:`ttc_sim.sweeping.backends.Backend`."""
    if address is not None:
        raise InputError("sweep", "address", address, "none with the backend local: it is this machine")

    def died(number: int) -> InputError:
        expected = (
            "processes that live: each one that began with it died, as of too little memory; in a script of your own, "
            "begin the sweep under `if __name__ == '__main__':`"
        )
        return InputError("sweep", f"point {number}", shown(points[number]), expected)

    done = in_any_order(workers or 1, begin, (setting,), carry_out, points, MOST_DEATHS, died)
    try:
        yield done
    finally:
        done.close()
