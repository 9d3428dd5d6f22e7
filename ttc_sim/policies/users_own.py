"""A user's own function as a policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttc_sim.base.consent import FileFunction, called_by
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError, nearest, users_code
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import Load, Request, Requests


@dataclass(frozen=True)
class UserFunction(Policy):
    """The user's own function: ``f(request)`` or, to see live load, ``f(request, load)``; returns an arm's name.

    One in a file is not known, and the file does not run, before the policy is used.
    """

    name: str
    function: Callable[..., str] | FileFunction

    def __post_init__(self) -> None:
        if not isinstance(self.function, FileFunction):
            self.get_ready()

    def get_ready(self) -> None:
        """Have the function, if it stands in a file, and see that it takes what it is given."""
        _ = self.looks_at_load

    def __repr__(self) -> str:
        return self.name

    def arm_names(self) -> tuple[str, ...]:
        """Nothing is known before the function runs."""
        return ()

    @cached_property
    def looks_at_load(self) -> bool:
        """Whether the function takes the live load as its second argument.

        Raises:
            InputError: it takes nothing, or stands in a file that may not run or fails.
        """
        with users_code(
            self.name, "policy", _EXPECTED
        ):  # nothing that can be called, or that does not say what it takes
            function = called_by(self.function)
            takes = _takes(function)
            if takes == 0:
                raise InputError(self.name, "policy", str(inspect.signature(function)), _EXPECTED)
        return takes > 1

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
        return self.arm_of(request, arms, load)

    def arm_of(self, request: Request, arms: Sequence[str], load: Load | None = None) -> int:
        """The same for a request as the function sees it.

        Raises:
            InputError: as for :meth:`choose_one`.
        """
        function, given = called_by(self.function), (request, load) if self.looks_at_load else (request,)
        with users_code(self.name, f"policy, request {request.index}", "the name of an arm"):
            arm = function(*given)
        if not isinstance(arm, str) or arm not in arms:
            raise InputError(
                self.name, f"policy, request {request.index}", arm, nearest(arm if isinstance(arm, str) else "", arms)
            )
        return list(arms).index(arm)


_EXPECTED = "a function of a request, or of a request and the live load"
_ONE_BY_ONE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _takes(function: Callable[..., str]) -> int:
    """How many of request and load a function takes; what it must be given by name is not among them."""
    parameters = inspect.signature(function).parameters.values()
    several = any(item.kind is inspect.Parameter.VAR_POSITIONAL for item in parameters)
    return 2 if several else sum(item.kind in _ONE_BY_ONE for item in parameters)
