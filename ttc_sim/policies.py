"""Policies: which arm each request is sent to, from what is predicted of it and, if asked for, from live load.

``Always``, ``Threshold`` and ``Banded`` look at one predicted score; :class:`PerSource` gives each source of requests
its own. ``Utility`` weighs what every arm is expected to make of a request. ``Overflow`` and ``LeastLoaded`` look at live load;
:class:`UserFunction` calls the user's own Python.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ttc_sim import notation
from ttc_sim.draws import F64, I64
from ttc_sim.errors import InputError, nearest
from ttc_sim.responses import Response, predict

DIFFICULTY = "difficulty"
NOVELTY = "novelty"
NOVEL = 0.5  # from this novelty on, farther than 95% of new problems of known kinds, a request is unlike what was trained on


@dataclass(frozen=True)
class Requests:
    """What a policy may know of ``n`` requests before they are answered.

    Attributes:
        arrival_s: (n,) seconds.
        source: (n,) index into ``sources``.
        sources: names of the sources.
        prompt_tokens: (n,).
        scores: predictions by name, each (n,): ``difficulty`` (0 easy to 1 hard), ``p:MODEL`` (predicted chance that the model
            answers correctly) and, where the predictor gives them, ``tokens:MODEL``, ``tokens_p50:MODEL``, ``tokens_p90:MODEL``
            (predicted output tokens) and ``novelty`` (0 known to 1 unlike anything it was trained on).
        responses: by arm, what it is expected to make of a request, for ``Utility``; ``None`` where that was not fitted.
    """

    arrival_s: F64
    source: I64
    sources: tuple[str, ...]
    prompt_tokens: I64
    scores: Mapping[str, F64]
    responses: Mapping[str, Response] | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True)
class Request:
    """One request as a user's own function sees it."""

    index: int
    arrival_s: float
    source: str
    prompt_tokens: int
    scores: Mapping[str, float]

    @property
    def difficulty(self) -> float:
        """Predicted difficulty, 0 to 1."""
        return self.scores[DIFFICULTY]


@dataclass(frozen=True)
class Load:
    """Live load at the moment a request arrives.

    Attributes:
        now_s: clock, seconds.
        in_progress: per deployment name, requests being served.
        waiting: per deployment name, requests queued.
    """

    now_s: float
    in_progress: Mapping[str, int]
    waiting: Mapping[str, int]


class Policy(Protocol):
    """Maps requests to arms."""

    def arm_names(self) -> tuple[str, ...]:
        """Arms the policy may choose, as far as it can say before it runs."""
        ...

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index into ``arms`` for each request, shape (n,)."""
        ...


def _score(requests: Requests, name: str) -> F64:
    if name not in requests.scores:
        raise InputError("policy", "score", name, nearest(name, requests.scores))
    return requests.scores[name]


@dataclass(frozen=True)
class Always:
    """Every request to one arm.

    >>> Always("small")
    Always(arm='small')
    """

    arm: str

    def arm_names(self) -> tuple[str, ...]:
        """The arm."""
        return (self.arm,)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """The same index for all."""
        return np.full(len(requests), list(arms).index(self.arm), dtype=np.int64)


@dataclass(frozen=True)
class Banded:
    """Bands of a predicted score, an arm each.

    Args:
        edges: increasing; band ``k`` holds scores from ``edges[k - 1]`` up to, not including, ``edges[k]``.
        arms: one more than edges.
        score: ``difficulty`` or ``p:MODEL``.

    >>> Banded(edges=[0.3], arms=["small", "large"]).arm_names()
    ('small', 'large')
    """

    edges: Sequence[float]
    arms: Sequence[str]
    score: str = DIFFICULTY

    def __post_init__(self) -> None:
        numbers = all(isinstance(e, (int, float)) and not isinstance(e, bool) and math.isfinite(e) for e in self.edges)
        if not numbers or any(a >= b for a, b in zip(self.edges, list(self.edges)[1:], strict=False)):
            raise InputError("Banded", "edges", self.edges, "increasing numbers")
        if isinstance(self.arms, str) or len(self.arms) != len(self.edges) + 1:
            raise InputError("Banded", "arms", self.arms, f"{len(self.edges) + 1} arms, one more than edges")

    def arm_names(self) -> tuple[str, ...]:
        """The arms, lowest band first."""
        return tuple(dict.fromkeys(self.arms))

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request's band."""
        index = np.array([list(arms).index(name) for name in self.arms], dtype=np.int64)
        band = np.searchsorted(np.asarray(self.edges, dtype=np.float64), _score(requests, self.score), side="right")
        return index[band]


@dataclass(frozen=True)
class Threshold:
    """One threshold on a predicted score: ``below`` it one arm, at it and ``above`` another.

    >>> Threshold(at=0.4, below="small", above="large").arm_names()
    ('small', 'large')
    """

    at: float
    below: str
    above: str
    score: str = DIFFICULTY

    def __post_init__(self) -> None:
        self._banded()

    def _banded(self) -> Banded:
        return Banded(edges=[self.at], arms=[self.below, self.above], score=self.score)

    def arm_names(self) -> tuple[str, ...]:
        """Both arms."""
        return self._banded().arm_names()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request."""
        return self._banded().choose(requests, arms)


@dataclass(frozen=True)
class PerSource:
    """A policy of its own for each source of requests."""

    policies: Mapping[str, Policy]

    def arm_names(self) -> tuple[str, ...]:
        """Arms of all sources."""
        return tuple(dict.fromkeys(name for policy in self.policies.values() for name in policy.arm_names()))

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request, by the policy of its source."""
        chosen = np.zeros(len(requests), dtype=np.int64)
        made: list[tuple[Policy, I64]] = []  # sources often share a policy, which then need not choose again
        for index, source in enumerate(requests.sources):
            here = requests.source == index
            if here.any():
                policy = self.policies[source]
                choice = next((choice for other, choice in made if other == policy), None)
                if choice is None:
                    choice = policy.choose(requests, arms)
                    made.append((policy, choice))
                chosen[here] = choice[here]
        return chosen


@dataclass(frozen=True)
class Utility:
    """Per request, the arm with the highest expected value: right answers at a price, less cost, less time at a price.

    What is expected of an arm for a request (chance of a right answer, US dollars, seconds) follows from the predictor's scores
    by the arm's fitted :class:`~ttc_sim.responses.Response`. Arms not offered to the request's source are left out; of arms of
    equal value the first is taken.

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
            if isinstance(price, bool) or not isinstance(price, (int, float)) or not math.isfinite(price) or price < 0:
                raise InputError("Utility", name, price, "a finite number of US dollars, at least 0")

    def arm_names(self) -> tuple[str, ...]:
        """Nothing is known before the requests are: any arm that is offered."""
        return ()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of highest value for each request.

        Raises:
            InputError: nothing is predicted of the arms, or of none that may serve a source.
        """
        if requests.responses is None:
            raise InputError(
                "policy", "Utility", repr(self), "arms with measured profiles: nothing is predicted of these"
            )
        best = np.full(len(requests), -np.inf)
        chosen = np.zeros(len(requests), dtype=np.int64)
        for one in predict(requests.responses, requests, arms):
            value = one.value(self)
            better = one.offered & (value > best)
            best[better], chosen[better] = value[better], one.arm
        if np.isinf(best).any():
            source = requests.sources[int(requests.source[np.isinf(best).argmax()])]
            raise InputError("policy", f"Utility, source {source}", "no response", "a response of an arm offered there")
        return chosen


def uses_responses(policy: Policy) -> bool:
    """Whether the policy weighs what arms are expected to do, for some source."""
    inner = policy.policies.values() if isinstance(policy, PerSource) else [policy]
    return any(isinstance(one, Utility) for one in inner)


@dataclass(frozen=True)
class UserFunction:
    """The user's own function: ``f(request)`` or, to see live load, ``f(request, load)``; returns an arm's name."""

    name: str
    function: Callable[..., str]

    def arm_names(self) -> tuple[str, ...]:
        """Nothing is known before the function runs."""
        return ()

    @property
    def looks_at_load(self) -> bool:
        """Whether the function takes the live load as its second argument."""
        return len(inspect.signature(self.function).parameters) > 1

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Call the function for each request, in order of arrival."""
        return np.array([self.choose_one(requests, i, arms) for i in range(len(requests))], dtype=np.int64)

    def choose_one(self, requests: Requests, index: int, arms: Sequence[str], load: Load | None = None) -> int:
        """Index of the arm that the function returns for one request.

        Raises:
            InputError: the function failed or returned something that is not an arm.
        """
        request = Request(
            index=index,
            arrival_s=float(requests.arrival_s[index]),
            source=requests.sources[int(requests.source[index])],
            prompt_tokens=int(requests.prompt_tokens[index]),
            scores={name: float(values[index]) for name, values in requests.scores.items()},
        )
        try:
            arm = self.function(request, load) if self.looks_at_load else self.function(request)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise InputError(self.name, f"policy, request {index}", what, "the name of an arm") from error
        if arm not in arms:
            raise InputError(self.name, f"policy, request {index}", arm, nearest(str(arm), arms))
        return list(arms).index(arm)


@dataclass(frozen=True)
class Overflow:
    """The first arm whose deployment has fewer than ``waiting`` sequences in its queues; the last arm takes what is left.

    >>> Overflow(arms=["own-gpu", "api"], waiting=8).arm_names()
    ('own-gpu', 'api')
    """

    arms: Sequence[str]
    waiting: int

    def __post_init__(self) -> None:
        _several_arms("Overflow", self.arms)
        if isinstance(self.waiting, bool) or not isinstance(self.waiting, int) or self.waiting < 1:
            raise InputError("Overflow", "waiting", self.waiting, "a whole number of at least 1")

    def arm_names(self) -> tuple[str, ...]:
        """The arms, in order of preference."""
        return tuple(self.arms)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """What an empty system would give: the first arm."""
        return np.full(len(requests), list(arms).index(self.arms[0]), dtype=np.int64)


@dataclass(frozen=True)
class LeastLoaded:
    """The arm whose deployment has the least in progress and waiting, as a share of what it can have in progress.

    >>> LeastLoaded(arms=["east", "west"]).arm_names()
    ('east', 'west')
    """

    arms: Sequence[str]

    def __post_init__(self) -> None:
        _several_arms("LeastLoaded", self.arms)

    def arm_names(self) -> tuple[str, ...]:
        """The arms; the first wins a tie."""
        return tuple(self.arms)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """What an empty system would give: the first arm."""
        return np.full(len(requests), list(arms).index(self.arms[0]), dtype=np.int64)


def _several_arms(policy: str, arms: object) -> None:
    if not isinstance(arms, (list, tuple)) or len(arms) < 2 or not all(isinstance(arm, str) for arm in arms):
        raise InputError(policy, "arms", arms, "a list of at least two arms")


POLICIES: dict[str, type] = {
    "Always": Always,
    "Threshold": Threshold,
    "Banded": Banded,
    "Overflow": Overflow,
    "LeastLoaded": LeastLoaded,
    "Utility": Utility,
}


def parse_policy(said: str | Mapping[str, str], *, where: str, field: str, folder: Path) -> Policy:
    """Read a policy in the notation of calls, one per source, or a user's ``file.py:function``.

    >>> parse_policy("Always('small')", where="gateway.yaml", field="policy", folder=Path("."))
    Always(arm='small')
    """
    if not isinstance(said, str):
        return PerSource(
            {
                source: parse_policy(text, where=where, field=f"{field}.{source}", folder=folder)
                for source, text in said.items()
            }
        )
    if notation.names_function(said):
        function = notation.load_function(said, folder, where=where, field=field)
        return UserFunction(name=said.rpartition("/")[2], function=function)
    made: Any = notation.parse(said, POLICIES, where=where, field=field)
    if not isinstance(made, tuple(POLICIES.values())):
        raise InputError(where, field, said, "a policy such as Always('small') or Banded(edges=[0.5], arms=['a', 'b'])")
    return cast(Policy, made)
