"""The policy that weighs what every arm is expected to make of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.arguments import finite, in_python
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.policies.followed import Followed, turns_of
from ttc_sim.policies.memory import Memory, Places
from ttc_sim.policies.predicted import Predicted, predict
from ttc_sim.policies.requests import Requests
from ttc_sim.policies.responses import Response


@dataclass(frozen=True)
class Utility(Followed):
    """Per request, the arm with the highest expected value: right answers at a price, less cost, less time at a price.

    What is expected of an arm for a request (chance of a right answer, US dollars, seconds) follows from the predictor's scores
    by the arm's fitted :class:`~ttc_sim.policies.responses.Response`. Arms not offered to the request's source are left out; of
    arms of equal value the first is taken. Of a turn of a session, what is warm of its prompt at an arm counts at the price of
    cached input there, and what is not at that of what is written to the cache.

    Args:
        price_of_accuracy: US dollars that a right answer is worth, at least 0.
        price_of_second: US dollars that a second of latency costs, at least 0.

    >>> Utility(price_of_accuracy=0.02)
    Utility(price_of_accuracy=0.02, price_of_second=0.0)
    """

    price_of_accuracy: float
    price_of_second: float = 0.0

    def __post_init__(self) -> None:
        for name in ("price_of_accuracy", "price_of_second"):
            price = getattr(self, name)
            if not finite(price) or price < 0:
                raise InputError("Utility", name, price, "a finite number of US dollars, at least 0")
        in_python(self, "price_of_accuracy", "price_of_second")

    def arm_names(self) -> tuple[str, ...]:
        """Nothing is known before the requests are: any arm that is offered."""
        return ()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of highest value for each request.

        Raises:
            InputError: nothing is predicted of the arms, or of none that may serve a source.
        """
        if requests.turns is not None and requests.costs is not None:
            return super().choose(requests, arms)
        return self.best_of(predict(_responses(self, requests), requests, arms), requests)

    def follow(self, requests: Requests, arms: Sequence[str], places: Places, memory: Memory) -> I64:
        """See :class:`~ttc_sim.policies.followed.Followed`."""
        from ttc_sim.policies.following import worthiest

        worth = np.full((len(arms), len(requests)), -np.inf)
        for one in predict(_responses(self, requests), requests, arms):
            value = one.value(self.price_of_accuracy, self.price_of_second)
            worth[one.arm, one.offered] = value[one.offered]
        table, out = self.table(requests, arms), np.empty(len(requests), dtype=np.int64)
        worthiest(
            worth,
            (places.conversation, places.parent, places.session),
            turns_of(requests),
            (table.on, table.usd, table.rules),
            (memory.kept, memory.used, memory.clock, memory.told),
            out,
        )
        _check_offered(out < 0, requests)
        return out

    @property
    def looks_at_problem_alone(self) -> bool:
        """Where there are no sessions."""
        return True

    def best_of(self, predicted: Iterable[Predicted], requests: Requests) -> I64:
        """Of arms of which this is predicted, in their order, the index of the one of highest value for each request.

        Raises:
            InputError: none of them may serve a source.
        """
        best = np.full(len(requests), -np.inf)
        chosen = np.zeros(len(requests), dtype=np.int64)
        for one in predicted:
            value = one.value(self.price_of_accuracy, self.price_of_second)
            better = one.offered & (value > best)
            best[better], chosen[better] = value[better], one.arm
        _check_offered(np.isinf(best), requests)
        return chosen

    @property
    def uses_responses(self) -> bool:
        """It does."""
        return True


def _responses(policy: Utility, requests: Requests) -> Mapping[str, Response]:
    if requests.responses is None:
        raise InputError(
            "policy", "Utility", repr(policy), "arms with measured profiles: nothing is predicted of these"
        )
    return requests.responses


def _check_offered(nowhere: NDArray[np.bool_], requests: Requests) -> None:
    """Raises:
    InputError: there is no arm for some requests.
    """
    if nowhere.any():
        source = requests.sources[int(requests.source[nowhere.argmax()])]
        raise InputError("policy", f"Utility, source {source}", "no response", "a response of an arm offered there")
