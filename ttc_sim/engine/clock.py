"""The reference engine's clock: SimPy's, with a rule for what comes first at one instant (docs/engine-order.md)."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy

# What happens at one instant, in this order.
SERVERS_END, REPLICAS_CHANGE, CLIENTS_GIVE_UP, CLIENTS_ACT, SERVERS_BEGIN = range(5)

_ROOM = 1 << 40  # more than there are requests
_FIRST = 2  # SimPy's own priorities are 0 and 1: what follows from an event follows before the next one


class Clock(simpy.Environment):
    """SimPy's environment with absolute times, exact to the last digit.

    >>> clock = Clock()
    >>> seen = []
    >>> for kind, number in [(CLIENTS_ACT, 5), (SERVERS_BEGIN, 0), (CLIENTS_ACT, 3), (SERVERS_END, 7)]:
    ...     _ = clock.at(1.5, kind, number, lambda _, what=(kind, number): seen.append(what))
    >>> clock.run()
    >>> seen == [(SERVERS_END, 7), (CLIENTS_ACT, 3), (CLIENTS_ACT, 5), (SERVERS_BEGIN, 0)], clock.now
    (True, 1.5)
    """

    def at(
        self, at_s: float, kind: int, number: int = 0, call: Callable[[simpy.Event], Any] | None = None
    ) -> simpy.Event:
        """An event at a moment, now or later.

        Args:
            at_s: seconds on this clock. SimPy's own timeouts would add the difference to now, and round twice.
            kind: ``SERVERS_END``, ``REPLICAS_CHANGE``, ``CLIENTS_GIVE_UP``, ``CLIENTS_ACT`` or ``SERVERS_BEGIN``.
            number: of the request or the replica, or :func:`ttc_sim.engine.fleet.order_of`; of one kind at one instant the lowest
                comes first.
            call: called when it happens.
        """
        event = simpy.Event(self)
        event._ok, event._value = True, None
        if call is not None:
            event.callbacks.append(call)
        heappush(self._queue, (at_s, _FIRST + kind * _ROOM + number, next(self._eid), event))  # type: ignore[misc]
        return event
