"""A user's own function as a policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import Load, Request, Requests


@dataclass(frozen=True)
class UserFunction(Policy):
    """The user's own function: ``f(request)`` or, to see live load, ``f(request, load)``; returns an arm's name."""

    name: str
    function: Callable[..., str]

    def __post_init__(self) -> None:
        try:
            takes = _takes(self.function)
        except (TypeError, ValueError) as error:  # nothing that can be called, or one that does not say what it takes
            raise InputError(self.name, "policy", str(error), _EXPECTED) from None
        if takes == 0:
            raise InputError(self.name, "policy", str(inspect.signature(self.function)), _EXPECTED)

    def __repr__(self) -> str:
        return self.name

    def arm_names(self) -> tuple[str, ...]:
        """Nothing is known before the function runs."""
        return ()

    @property
    def looks_at_load(self) -> bool:
        """Whether the function takes the live load as its second argument."""
        return _takes(self.function) > 1

    @property
    def looks_at_problem_alone(self) -> bool:
        """Not known: it may look at the time, or keep count."""
        return False

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
        except (Exception, SystemExit) as error:  # a function that calls sys.exit() must not end what calls it
            what = f"{type(error).__name__}: {error}"
            raise InputError(self.name, f"policy, request {index}", what, "the name of an arm") from error
        if arm not in arms:
            raise InputError(self.name, f"policy, request {index}", arm, nearest(str(arm), arms))
        return list(arms).index(arm)


_EXPECTED = "a function of a request, or of a request and the live load"
_ONE_BY_ONE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _takes(function: Callable[..., str]) -> int:
    """How many of request and load a function takes; what it must be given by name is not among them."""
    parameters = inspect.signature(function).parameters.values()
    several = any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters)
    return 2 if several else sum(item.kind in _ONE_BY_ONE for item in parameters)
