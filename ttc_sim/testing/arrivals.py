"""What every arrival process keeps."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ttc_sim.scenario import Arrivals
from ttc_sim.testing.engines import run_both
from ttc_sim.testing.examples import pool_of, work_of, written_and_read
from ttc_sim.workload import Traffic, generate
from ttc_sim.workload.checking import checked


class ArrivalsConformance:
    """Tests of :attr:`arrivals`, as a scenario has them.

    Attributes:
        folder: that relative paths in the settings start from.
        random: whether runs differ; a replayed trace's do not.
        least_requests: fewest that can be asked for: the users of a closed loop.
        enough_requests: so many that the rate settles: many bursts, several rounds of a shape that repeats; ``runs`` of so many.

    >>> from ttc_sim.scenario import Poisson
    >>> class TestPoisson(ArrivalsConformance):
    ...     arrivals = Poisson(process="poisson", rate_per_s=2.0)
    >>> TestPoisson().test_the_rate_is_as_said()
    """

    arrivals: ClassVar[Arrivals]
    folder: ClassVar[str | Path] = "."
    random: ClassVar[bool] = True
    least_requests: ClassVar[int] = 1
    enough_requests: ClassVar[int] = 4000
    runs: ClassVar[int] = 12

    def test_as_many_come_as_were_asked_for(self) -> None:
        """In order, from 0 on, each with its lengths if the process carries them; every array of one length."""
        for count in (self.least_requests, self.least_requests + 1, self.least_requests + 100):
            made = self._made(count)
            checked(made, count, repr(self.arrivals), carries_lengths=made.prompt_tokens is not None)
            carried = self.arrivals.carries_lengths
            assert carried or made.prompt_tokens is None, "lengths are carried, and carries_lengths is False"

    def test_the_first_do_not_depend_on_how_many_come(self) -> None:
        """The first of a thousand requests are those of a run of ten: figures do not depend on how many were asked for."""
        many = self._made(self.least_requests + 200)
        for count in (self.least_requests, self.least_requests + 7, self.least_requests + 199):
            few = self._made(count)
            for name in ("arrival_s", "client", "prompt_tokens", "reasoning_tokens", "visible_tokens", "prefix_id"):
                a, b = getattr(few, name), getattr(many, name)
                same = (a is None and b is None) or np.array_equal(a, b[:count], equal_nan=name == "arrival_s")
                assert same, f"{name} of the first {count} is another among {len(many.arrival_s)}"

    def test_same_seed_same_arrivals(self) -> None:
        """Nothing is random but what follows from seed and run, and nothing is remembered."""
        count = self.least_requests + 50
        first = self._made(count)
        self._made(count + 1, seed=3)
        again = self._made(count, arrivals=copy.deepcopy(self.arrivals))
        np.testing.assert_equal(vars(first), vars(again))

    def test_runs_differ(self) -> None:
        """Independent runs are independent, and seeds too; what is not random is the same in all."""
        count = self.least_requests + 50
        times = [self._made(count, seed=seed, run=run) for seed, run in ((1, "0"), (1, "1"), (2, "0"), (1, "plan/0"))]
        seen = {_drawn(one) for one in times}
        if self.random:
            assert len(seen) == len(times), (
                "another seed or run gave the same arrivals: set random = False if they must"
            )
        else:
            assert len(seen) == 1, "runs differ, and random is False"

    def test_the_rate_is_as_said(self) -> None:
        """Bills and capacity go by ``rate_per_s``: over many requests it is what comes, within what chance allows."""
        if self._made(self.least_requests).after is not None:
            return  # a closed loop sends as fast as it is answered
        count = max(self.enough_requests, self.least_requests)
        runs = [self._made(count, run=str(k)) for k in range(self.runs if self.random else 1)]
        ratio = np.array([one.arrival_s[-1] * one.rate_per_s / count for one in runs])
        chance = ratio.std(ddof=1) / np.sqrt(self.runs) if self.random else 0.0
        said = f"{count} requests took {ratio.mean():.3f} times as long as at {runs[0].rate_per_s:g} a second"
        assert abs(ratio.mean() - 1) <= 0.02 + 2 / count + 5 * chance, said

    def test_settings_survive_a_file(self) -> None:
        """A plan writes its workload down; read back, it is the same."""
        written_and_read(self.arrivals)

    def test_both_engines_agree(self) -> None:
        """Requests that arrive so, or that follow one another so, are served alike by both."""
        made = self._made(self.least_requests + 30)
        work = work_of(made.arrival_s, "arrivals")
        result = run_both([replace(work, after=made.after, think_s=made.think_s)], ["pool"], [pool_of()])
        assert (result.status == 0).all(), "a request was not answered"

    def _made(self, count: int, *, seed: int = 1, run: str = "0", arrivals: Arrivals | None = None) -> Traffic:
        return generate(arrivals or self.arrivals, count, seed, folder=Path(self.folder), where="arrivals", run=run)


def _drawn(traffic: Traffic) -> bytes:
    think_s = b"" if traffic.think_s is None else traffic.think_s.tobytes()
    return traffic.arrival_s.tobytes() + think_s


__all__ = ["ArrivalsConformance"]
