"""What was made of one run's requests before, kept for the next policy, cap or price that is tried on them.

What an arm makes of a request depends neither on other requests nor on where those are sent. So each arm is carried out on every
request once, and what a policy makes of them is gathered from that: the same to the digit, in a fraction of the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import Work
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.simulation.carrying import Carried, carry_anew
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.gathering import gathered, joined, stretches
from ttc_sim.simulation.model import Model

_MOST = 48  # arms, or caps of them, that are kept: 10 MB each for 100,000 requests of a single attempt
_RUNS = 8  # those of the latest settings: of a price that is moved alone only the bill is another
_OF_THE_BILL = ("price", "usd_per_replica_hour")  # what is paid changes nothing that is done


Ran = TypeVar("Ran")


class Memory:
    """Of one run's draws: the numbers that were drawn, and what arms make of every request.

    >>> from ttc_sim.scenario import load_scenario
    >>> from ttc_sim.simulation.drawing import draw
    >>> from ttc_sim.simulation.model import load_model
    >>> draws = draw(load_model(load_scenario("reasoning-gateway")), 0)
    >>> replace(draws, memory=Memory()).memory is None
    False
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str, int], F64] = {}
        # With what it was made from, so that none of that has become another object by then.
        self._wholes: OrderedDict[object, tuple[object, Carried]] = OrderedDict()
        self._together: tuple[list[Carried], Carried] | None = None
        self._sent: tuple[Carried, I64, int, Carried] | None = None
        self._told: tuple[Model, str] | None = None
        self._ran: OrderedDict[object, tuple[object, Any]] = OrderedDict()

    def numbers(self, kind: str, stream: str, width: int, drawn: Callable[[], F64]) -> F64:
        """Uniform numbers of a stream, drawn when they are first asked for."""
        key = kind, stream, width
        if key not in self._numbers:
            self._numbers[key] = drawn()
        return self._numbers[key]

    def carried(self, model: Model, draws: Draws, arm: I64, fallen: int) -> Carried:
        """As :func:`ttc_sim.simulation.carrying.carry`."""
        used = np.flatnonzero(np.bincount(arm))
        wholes = [self._whole(model, draws, index, fallen) for index in used.tolist()]
        if len(wholes) == 1:
            return wholes[0]
        if self._together is None or [id(one) for one in self._together[0]] != [id(one) for one in wholes]:
            self._together = wholes, _joined(wholes)
        together, last = self._together[1], self._sent
        if last is None or last[0] is not together or last[2] != fallen or not np.array_equal(last[1], arm):
            request = np.searchsorted(used, arm) * len(arm) + np.arange(len(arm))
            last = self._sent = together, arm.copy(), fallen, _gathered(together, request, wholes[0])
        return last[3]

    def ran(self, model: Model, works: Sequence[Work], how: object, run: Callable[[], Ran]) -> Ran:
        """What came of these works on the deployments as they are, whatever they cost; ``how``: what else it depends on."""
        key = (*map(id, works), how, self._served(model))
        if key not in self._ran:
            self._ran[key] = works, run()
            if len(self._ran) > _RUNS:
                self._ran.popitem(last=False)
        found: Ran = self._ran[key][1]
        return found

    def _whole(self, model: Model, draws: Draws, index: int, fallen: int) -> Carried:
        """What one arm makes of all requests."""
        item = model.arms[index]
        others = [one for one in model.arms if one.name in item.strategy.other_arms]
        key = (
            *((one.name, repr(one.strategy), id(one.attempts), one.deployment) for one in others),
            (repr(item.strategy), id(item.attempts), item.deployment),
            *(one.priority for one in model.scenario.workload.sources.values()),
            self._served(model),
            fallen,
        )
        if key not in self._wholes:
            made = carry_anew(model, draws, np.full(len(draws), index, dtype=np.int64), fallen)
            self._wholes[key] = [one.attempts for one in (item, *others)], made
            if len(self._wholes) > _MOST:
                self._wholes.popitem(last=False)
        self._wholes.move_to_end(key)
        return self._wholes[key][1]

    def _served(self, model: Model) -> str:
        """All that is said of the deployments, but for what they cost."""
        if self._told is None or self._told[0] is not model:
            said = [
                (
                    name,
                    type(item).__name__,
                    _kept_at(item),
                    {k: v for k, v in vars(item).items() if k not in _OF_THE_BILL},
                )
                for name, item in zip(model.deployment_names, model.deployments, strict=True)
            ]
            self._told = model, repr(said)
        return self._told[1]


def _kept_at(item: Api | GpuPool) -> object:
    """What an endpoint's prompt cache does, which the model that its price names has a say in."""
    return item.cache_rules if isinstance(item, Api) else None


def _joined(carried: list[Carried]) -> Carried:
    return Carried(
        joined([one.work for one in carried]),
        *(np.concatenate([getattr(one, name) for one in carried]) for name in ("correct", "cut_off", "calls")),
    )


def _gathered(together: Carried, request: I64, like: Carried) -> Carried:
    """Of some requests of several works together; whom they wait for as in one of the works."""
    stages = stretches(together.work.stage_start, request)
    work = gathered(together.work, request, stages)
    whole = work.needed is None or bool((work.needed == np.diff(work.sample_start)).all())
    work = replace(work, needed=None if whole else work.needed, after=like.work.after, think_s=like.work.think_s)
    return Carried(work, together.correct[request], together.cut_off[request], together.calls[stages[0]])


__all__ = ["Memory"]
