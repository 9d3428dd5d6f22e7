"""Policies by name, and the one notation that they are written in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base import notation, plugins
from ttc_sim.base.errors import InputError
from ttc_sim.policies.live import LeastLoaded, Overflow
from ttc_sim.policies.per_source import PerSource
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.scored import Always, Banded, Threshold
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
    },
)


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
    if not isinstance(made, Policy):
        raise InputError(where, field, said, "a policy such as Always('small') or Banded(edges=[0.5], arms=['a', 'b'])")
    return made
