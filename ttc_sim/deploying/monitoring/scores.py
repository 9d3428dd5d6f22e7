"""Which of the scores in a log the plan's policy reads: where arms are tried on purpose, lines hold all that there are."""

from __future__ import annotations

from collections.abc import Iterable

from ttc_sim.base.errors import InputError
from ttc_sim.base.plugins import is_shipped
from ttc_sim.deploying.asking import ask, one_request
from ttc_sim.deploying.scoring import WHOLE
from ttc_sim.policies import UserFunction
from ttc_sim.scenario import Scenario


def scores_read(scenario: Scenario, sources: tuple[str, ...], known: Iterable[str]) -> set[str]:
    """Names of those, and difficulty and novelty; all that are known where a policy of one's own may read any."""
    policy, names = scenario.parsed_policy(), set(known)
    assert policy is not None
    found = names & set(WHOLE)
    for source in sources:
        mine = policy.for_source(source)
        if isinstance(mine, UserFunction) or not is_shipped(type(mine)):
            return names
        if mine.looks_at_load:
            continue
        asked = one_request(dict.fromkeys(names, 0.5), source, sources, 100, 0.0, 0, scenario.responses)
        try:
            ask(mine, asked, list(scenario.arms), None, ())
        except InputError:  # a score that the log does not have
            return names
        found |= asked.looked.keys()
    return found


__all__ = ["scores_read"]
