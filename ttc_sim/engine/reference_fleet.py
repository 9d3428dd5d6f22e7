"""A pool's replicas in the reference engine: in service, starting, draining, under repair."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.engine.clock import REPLICAS_CHANGE
from ttc_sim.engine.fleet import (
    DECIDE,
    DRAINING,
    FAIL,
    FIXED,
    IN_SERVICE,
    OFF,
    READY,
    REPAIRED,
    SCHEDULE,
    STARTING,
    TTFT,
    UNDER_REPAIR,
    Fleets,
    decides_at,
    nth_smallest,
    order_of,
    place_of,
    replicas_needed,
    replicas_wanted,
)
from ttc_sim.engine.recording import Recorder
from ttc_sim.engine.replica import Replica
from ttc_sim.scenario import GpuPool

Draws = Callable[[int, int], F64]


class Fleet:
    """Replicas of one pool, each in a place of its own.

    Args:
        recorder: of the run; log: where changes of states are written down: moment, replica, state.
        number: of the pool among deployments; first: of its first replica among all.
        fleets: what decides on the number of replicas.
        make: a new replica in a place.
        drawn: of a replica and how often it has come into service: seconds until it fails, and until it is repaired.
    """

    def __init__(
        self,
        recorder: Recorder,
        log: list[tuple[float, int, int]],
        pool: GpuPool,
        number: int,
        first: int,
        fleets: Fleets,
        make: Callable[[int], Replica],
        drawn: Draws,
    ) -> None:
        self.recorder, self.log, self.pool, self.number, self.first = recorder, log, pool, number, first
        self.fleets, self.make, self.drawn = fleets, make, drawn
        self.one = fleets.of.view(np.recarray)[number]
        ranks = pool.data_parallel  # those of a replica that has more than one stay as long as the run lasts
        self.replicas = [make(place) for place in range(pool.most_replicas * ranks)]
        self.state = [IN_SERVICE if place < pool.replicas * ranks else OFF for place in range(len(self.replicas))]
        self.came = [0] * pool.most_replicas  # how often each has come into service, or begun to start
        self.starts = [0] * pool.most_replicas
        self.ready_s = [0.0] * pool.most_replicas

    @property
    def serving(self) -> list[int]:
        """Places whose replicas are in service."""
        return [place for place, state in enumerate(self.state) if state == IN_SERVICE]

    @property
    def active(self) -> int:
        """Replicas in service, and those that will be once they have started."""
        return sum(state in (STARTING, IN_SERVICE) for state in self.state)

    def begin(self) -> None:
        """Put what will happen into the clock."""
        for place in self.serving:
            self._serve(place, 0.0)
        for one in (self.pool.failures.at or []) if self.pool.failures is not None else []:
            self._at(one.at_s, FAIL, self.first + one.replica, partial(self._fail, one.replica, one.repair_s, None))
        if self.one.rule != FIXED:
            self._decide_next()

    def _at(self, at_s: float, what: int, number: int, call: Callable[[], None]) -> None:
        if at_s < np.inf:
            # Once no request is left nobody looks any more.
            go = lambda _: call() if self.recorder.unfinished else None  # noqa: E731
            self.recorder.env.at(at_s, REPLICAS_CHANGE, order_of(what, number), go)

    def _become(self, place: int, state: int) -> None:
        self.state[place] = state
        self.log.append((float(self.recorder.env.now), self.first + place, state))

    def _serve(self, place: int, now_s: float) -> None:
        if self.one.at_random:
            fails_s, repair_s = self.drawn(self.first + place, self.came[place])
            self.came[place] += 1
            call = partial(self._fail, place, float(repair_s), self.came[place])
            self._at(now_s + float(fails_s), FAIL, self.first + place, call)

    def _fail(self, place: int, repair_s: float, life: int | None) -> None:
        if self.state[place] in (OFF, UNDER_REPAIR):
            return
        if life is not None and (self.state[place] == STARTING or self.came[place] != life):
            return
        now_s = float(self.recorder.env.now)
        self._become(place, UNDER_REPAIR)
        self._at(now_s + repair_s, REPAIRED, self.first + place, partial(self._repaired, place))
        self.replicas[place].break_down()
        self._renew(place)
        self._reconcile()

    def _renew(self, place: int) -> None:
        """Put a new one, with nothing in its caches, into a place."""
        busy_s = self.replicas[place].busy_s
        self.replicas[place] = self.make(place)
        self.replicas[place].busy_s = busy_s

    def _repaired(self, place: int) -> None:
        if self.active < self.one.wanted:
            self._start(place)
        else:
            self._become(place, OFF)
            self._reconcile()

    def _start(self, place: int) -> None:
        self._become(place, STARTING)
        self.starts[place] += 1
        self.ready_s[place] = float(self.recorder.env.now) + float(self.one.start_s)
        call = partial(self._ready, place, self.starts[place])
        self._at(self.ready_s[place], READY, self.first + place, call)

    def _ready(self, place: int, start: int) -> None:
        if self.state[place] == STARTING and self.starts[place] == start:
            self._become(place, IN_SERVICE)
            self._serve(place, float(self.recorder.env.now))

    def _reconcile(self) -> None:
        """Start replicas while fewer are there than are wanted, and places are free: those that drain are not taken back."""
        while self.active < self.one.wanted and OFF in self.state:
            self._start(self.state.index(OFF))

    def _decide_next(self) -> None:
        self._at(float(decides_at(self.one, self.fleets.step_s)), DECIDE, self.number, self._decide)

    def _decide(self) -> None:
        one, now_s = self.one, float(self.recorder.env.now)
        one.look += 1
        if one.rule == SCHEDULE:
            wanted = int(self.fleets.step_replicas[one.first_step + one.look % one.steps])
        else:
            running, waiting = (
                sum(len(getattr(replica, name)) for replica in self.replicas) for name in ("running", "waiting")
            )
            needed = replicas_needed(one, self.fleets.counts, running, waiting, self._ttft_s(now_s))
            wanted = int(replicas_wanted(one, self.fleets.wanted, needed, now_s))
        if wanted != one.wanted:
            one.wanted, one.changed_s = wanted, now_s
            while self.active > wanted:
                self._drain(self._leaving())
            self._reconcile()
        self._decide_next()

    def _ttft_s(self, now_s: float) -> float:
        if self.one.rule != TTFT:
            return -1.0
        since_s = now_s - self.one.window_s
        seen = [ttft_s for d, at_s, ttft_s in self.recorder.first_tokens if d == self.number and at_s > since_s]
        return nth_smallest(seen, len(seen), place_of(self.one.percentile, len(seen))) if seen else -1.0

    def _leaving(self) -> int:
        """The one that would be the last to be ready, or else that with the fewest unfinished; of equal ones the last."""
        starting = [place for place, state in enumerate(self.state) if state == STARTING]
        if starting:
            return max(starting, key=lambda place: (self.ready_s[place], place))
        return min(self.serving, key=lambda place: (self.replicas[place].unfinished, -place))

    def _drain(self, place: int) -> None:
        if self.state[place] == STARTING:
            self._become(place, OFF)
        elif self.replicas[place].asleep:
            self._become(place, OFF)
            self._renew(place)
        else:
            self._become(place, DRAINING)
            self.replicas[place].when_idle = partial(self._drained, place)

    def _drained(self, place: int) -> None:
        self._become(place, OFF)
        self._renew(place)
        self._reconcile()
