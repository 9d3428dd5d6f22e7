"""What is on its way to each deployment, as a runtime is told of it, for policies that look at live load."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ttc_sim.base.arguments import count
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.engine.work import capacity
from ttc_sim.policies import Load
from ttc_sim.scenario import Api, GpuPool


class OnItsWay:
    """Counts of calls that were sent to deployments and have not ended.

    As many of them as a deployment can have in progress are taken to be, the others to wait: at a pool as many sequences as its
    replicas, as the plan has them at the start, batch; at an endpoint its ``concurrency``, or any number without one. A server
    whose KV cache is full may have fewer in progress than that.
    """

    def __init__(self, deployments: Mapping[str, Api | GpuPool]) -> None:
        self._most = {name: capacity(item) for name, item in deployments.items()}
        self._count = dict.fromkeys(deployments, 0)
        self._lock = threading.Lock()
        self.told = False

    def change(self, deployment: str, calls: int, sign: int) -> bool:
        """So many more calls are on their way (``sign`` 1), or fewer (-1); whether that can be: no more can end than were sent.

        Raises:
            InputError: a deployment that the plan does not have, or no number of calls.
        """
        if not isinstance(deployment, str) or deployment not in self._count:
            raise InputError("runtime", "deployment", deployment, nearest(str(deployment), self._count))
        calls = count("runtime", "calls", calls, 1, MOST_REQUESTS, "calls")
        with self._lock:
            self.told = True
            left = self._count[deployment] + sign * calls
            self._count[deployment] = max(left, 0)
        return left >= 0

    def at(self, now_s: float) -> Load:
        """The load at that moment."""
        with self._lock:
            counts = dict(self._count)
        progress = {name: int(min(number, self._most[name])) for name, number in counts.items()}
        waiting = {name: number - progress[name] for name, number in counts.items()}
        return Load(now_s=now_s, in_progress=progress, waiting=waiting, capacity=self._most)


__all__ = ["OnItsWay"]
