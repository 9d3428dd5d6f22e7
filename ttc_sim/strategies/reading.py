"""Strategies by name, and the one notation that they are written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ttc_sim.base import notation, plugins
from ttc_sim.base.consent import AllowCode, Code, names_function
from ttc_sim.base.errors import InputError
from ttc_sim.strategies.attempt import BudgetForcing, Single
from ttc_sim.strategies.best_of_n import BestOfN
from ttc_sim.strategies.cascade import Cascade
from ttc_sim.strategies.kind import Strategy
from ttc_sim.strategies.majority_vote import MajorityVote
from ttc_sim.strategies.outcomes import Outcome, Trial
from ttc_sim.strategies.users_own import UserStrategy

# A new kind is one file in this folder and one name here.
STRATEGIES = plugins.Registry(
    "strategies",
    Strategy,
    {
        "Single": Single,
        "BudgetForcing": BudgetForcing,
        "MajorityVote": MajorityVote,
        "BestOfN": BestOfN,
        "Cascade": Cascade,
    },
)

# What others rely on that a strategy says of itself: checked where it is a user's own.
SAID: dict[str, plugins.Rule] = {
    "attempt_cap": (
        lambda cap: cap is None or (isinstance(cap, int) and not isinstance(cap, bool) and cap >= 1),
        "a whole number of tokens, or None",
    ),
    "takes_cap": plugins.YES_OR_NO,
    "other_arms": plugins.NAMES,
    "verifiers": plugins.NAMES,
    "votes": plugins.YES_OR_NO,
    "reads_scores": plugins.YES_OR_NO,
}


StrategyLike: TypeAlias = Strategy | str | Callable[[Trial], Outcome]
"""A strategy, its notation, or a function that carries a trial out."""

_READ: dict[str, Strategy] = {}  # shipped ones alone, which no other class can take the name of
_MOST_READ = 4096
_EXPECTED = "a strategy such as Single(cap=4096) or MajorityVote(n=3)"


def as_strategy(
    given: StrategyLike,
    *,
    where: str,
    field: str = "strategy",
    folder: str | Path = ".",
    allow_code: AllowCode | Code = False,
) -> Strategy:
    """A strategy from whatever may be given for one.

    Args:
        where: the file or function, and ``field`` the key or argument, that an error names.
        folder: that a user's file is looked up from, and must lie in.
        allow_code: whether that file may run once the strategy is carried out; ``"remember"`` allows it from now on.

    Raises:
        InputError: none of these, or a notation that cannot be read.

    >>> as_strategy("Single(cap=2048)", where="evaluate") == as_strategy(Single(cap=2048), where="evaluate")
    True
    """
    if isinstance(given, Strategy):
        return given
    if isinstance(given, str):
        return parse_strategy(given, where=where, field=field, folder=folder, allow_code=allow_code)
    if callable(given) and not isinstance(given, type):
        return UserStrategy(getattr(given, "__name__", type(given).__name__), given)
    raise InputError(where, field, given, f"{_EXPECTED}, or a function of a Trial")


def parse_strategy(
    text: str,
    *,
    where: str = "strategy",
    field: str = "strategy",
    folder: str | Path = ".",
    allow_code: AllowCode | Code = False,
) -> Strategy:
    """Read the one notation of strategies.

    Args:
        text: a call, or ``file.py:function`` for the user's own.
        where: the file, and ``field`` the key, that an error names.
        folder: that a user's file is looked up from, and must lie in.
        allow_code: whether that file may run once the strategy is carried out; ``"remember"`` allows it from now on.

    >>> parse_strategy("MajorityVote(n=3, cap=2048)")
    MajorityVote(n=3, cap=2048)
    """
    if not isinstance(text, str):
        raise InputError(where, field, text, _EXPECTED)
    code = allow_code if isinstance(allow_code, Code) else Code(allow_code)
    if names_function(text):
        return UserStrategy(text, code.function(text, folder, where=where, field=field, use="carry requests out"))
    if text in _READ:
        made = _READ[text]
        for part in (made, *_parts(made)):
            plugins.find(STRATEGIES, type(part).__name__, where=where, field=field)  # still nobody else's name
        return made
    made = notation.parse(text, STRATEGIES, where=where, field=field)
    if not isinstance(made, Strategy):
        raise InputError(where, field, text, _EXPECTED)
    if not plugins.is_shipped(type(made)):
        plugins.check_said(made, SAID, where=where, field=field)
    elif all(plugins.is_shipped(type(part)) for part in _parts(made)):
        if len(_READ) >= _MOST_READ:
            _READ.clear()
        _READ[text] = made
    return made


def _parts(made: Strategy) -> list[object]:
    """What it is made of, to the bottom, where that is a strategy."""
    inner = [item for one in vars(made).values() for item in (one if isinstance(one, tuple) else (one,))]
    return [part for one in inner if isinstance(one, Strategy) for part in (one, *_parts(one))]
