"""Policies by name, and the one notation that they are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ttc_sim.base import notation, plugins
from ttc_sim.base.consent import AllowCode, Code, names_function
from ttc_sim.base.errors import InputError
from ttc_sim.policies.live import LeastLoaded, Overflow
from ttc_sim.policies.per_source import PerSource
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.scored import Always, Banded, Threshold
from ttc_sim.policies.session_budget import SessionBudget
from ttc_sim.policies.sticky import Escalate, Sticky
from ttc_sim.policies.users_own import UserFunction
from ttc_sim.policies.utility import Utility

# A new kind is one file in this folder and one name here.
POLICIES = plugins.Registry(
    "policies",
    Policy,
    {
        "Always": Always,
        "Threshold": Threshold,
        "Banded": Banded,
        "Overflow": Overflow,
        "LeastLoaded": LeastLoaded,
        "Utility": Utility,
        "Sticky": Sticky,
        "Escalate": Escalate,
        "SessionBudget": SessionBudget,
    },
)

# What others rely on that a policy says of itself: checked where it is a user's own.
SAID: dict[str, plugins.Rule] = {
    "arm_names": plugins.NAMES,
    "looks_at_load": plugins.YES_OR_NO,
    "uses_responses": plugins.YES_OR_NO,
}


PolicyLike: TypeAlias = Policy | str | Mapping[str, Policy | str | Callable[..., str]] | Callable[..., str]
"""A policy, its notation, one of these for each source, or a function of a request (and of the live load, if it asks)."""

_EXPECTED = "a policy such as Always('small') or Banded(edges=[0.5], arms=['a', 'b'])"


def as_policy(
    given: PolicyLike,
    *,
    where: str,
    field: str = "policy",
    folder: str | Path = ".",
    allow_code: AllowCode | Code = False,
) -> Policy:
    """A policy from whatever may be given for one.

    Args:
        where: the file or function, and ``field`` the key or argument, that an error names.
        folder: that a user's file is looked up from, and must lie in.
        allow_code: whether that file may run once the policy is used; ``"remember"`` allows it from now on.

    Raises:
        InputError: none of these, or a notation that cannot be read.

    >>> as_policy({"chat": "Always('small')", "maths": Always("large")}, where="simulate").arm_names()
    ('small', 'large')
    >>> as_policy(lambda request: "small" if request.difficulty < 0.3 else "large", where="simulate")
    <lambda>
    """
    code = allow_code if isinstance(allow_code, Code) else Code(allow_code)
    if isinstance(given, Policy):
        return given
    if isinstance(given, str):
        return _parsed(given, where, field, folder, code)
    if isinstance(given, Mapping):
        policies = {
            source: as_policy(one, where=where, field=f"{field}.{source}", folder=folder, allow_code=code)
            for source, one in given.items()
        }
        return PerSource(policies)
    if callable(given) and not isinstance(given, type):
        return UserFunction(name=getattr(given, "__name__", type(given).__name__), function=given)
    raise InputError(where, field, given, f"{_EXPECTED}, one for each source, or a function of a request")


def parse_policy(
    said: str | Mapping[str, str],
    *,
    where: str = "policy",
    field: str = "policy",
    folder: str | Path = ".",
    allow_code: AllowCode | Code = False,
) -> Policy:
    """Read a policy in the notation of calls, one per source, or a user's ``file.py:function``; the rest as :func:`as_policy`.

    >>> parse_policy("Always('small')")
    Always(arm='small')
    """
    return as_policy(said, where=where, field=field, folder=folder, allow_code=allow_code)


def _parsed(text: str, where: str, field: str, folder: str | Path, code: Code) -> Policy:
    if names_function(text):
        function = code.function(text, folder, where=where, field=field, use="choose the arms of requests")
        return UserFunction(name=text.rpartition("/")[2], function=function)
    made: Any = notation.parse(text, POLICIES, where=where, field=field)
    if not isinstance(made, Policy):
        raise InputError(where, field, text, _EXPECTED)
    if not plugins.is_shipped(type(made)):
        plugins.check_said(made, SAID, where=where, field=field)
    return made
