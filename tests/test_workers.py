"""Work shared out to processes."""

from __future__ import annotations

import time

import pytest

from ttc_sim.base.workers import processes


def _begin(of: float) -> None:
    """Sent to each process."""
    assert of == 0.5


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    with processes(workers, _begin, (0.5,)) as mapped:
        assert list(mapped(abs, [-3, 1, -2])) == [3, 1, 2]


def _interrupted(error: type[BaseException]) -> None:
    with processes(2, _begin, (0.5,)) as mapped:
        next(mapped(time.sleep, [0.01, 300, 300, 300]))
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_does_not_wait_for_what_is_under_way(error: type[BaseException]) -> None:
    start = time.perf_counter()
    with pytest.raises(error):
        _interrupted(error)
    assert time.perf_counter() - start < 60
