"""What cannot be carried out live is refused before the first request, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.carrying.attempts import forces
from ttc_sim.deploying.carrying.manner import Manner
from ttc_sim.deploying.carrying.messages import is_json
from ttc_sim.deploying.carrying.transports import OWN
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.scenario import Scenario
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy

_TOOLS = ("tools", "tool_choice", "functions", "function_call")


def arms_asked(scenario: Scenario, arms: Iterable[str] | None) -> list[str]:
    """Arms that may be asked: those that may be chosen, their fallbacks, and those that their strategies name.

    Raises:
        InputError: an arm that the scenario does not have.
    """
    found: dict[str, None] = {}
    for name in scenario.arms if arms is None else arms:
        if name not in scenario.arms:
            raise InputError(scenario.path, "arm", name, nearest(str(name), scenario.arms))
        for one in scenario.path_of(name):
            found[one] = None
            found |= dict.fromkeys(scenario.parsed_strategy(one).other_arms)
    return list(found)


def check(scenario: Scenario, endpoints: Mapping[str, Endpoint], manner: Manner, arms: Iterable[str]) -> None:
    """Refuse an arm that cannot be carried out on where its deployments stand.

    Raises:
        InputError: a strategy of one's own, a deployment that stands nowhere, thinking to be continued on a server that does not
            take it, a verifier or judge that there is not.
    """
    for name in arms:
        field, strategy = f"arms.{name}.strategy", scenario.parsed_strategy(name)
        deployment = scenario.arms[name].deployment
        for needed in (deployment, *strategy.verifiers):
            if needed not in endpoints:
                raise InputError("endpoints", needed, "nothing", f"an url and a model, as arm {name} needs it")
            _check_body(needed, endpoints[needed].body)
        for one in _parts(strategy, scenario.path, field):
            _check_part(scenario, one, endpoints[deployment], deployment, manner, field)


def _check_body(name: str, body: Mapping[str, Any]) -> None:
    for key in body:
        if key in OWN:
            raise InputError(
                "endpoints", f"{name}.body", key, f"keys other than {', '.join(OWN)}, which are the plan's"
            )
        if key in _TOOLS:
            raise InputError("endpoints", f"{name}.body", key, "no tools: their calls are nobody's to carry out here")
    if not is_json(dict(body)):
        raise InputError("endpoints", f"{name}.body", dict(body), "what JSON can say: numbers, texts, lists, mappings")


def _parts(strategy: Strategy, where: str, field: str) -> Iterator[Strategy]:
    """The strategy, and the stages that it has on the arm's own deployment."""
    if type(strategy) not in (Single, BudgetForcing, MajorityVote, BestOfN, Cascade):
        expected = "a shipped strategy: what a class or function of one's own does is known to simulations alone"
        raise InputError(where, field, repr(strategy), expected)
    yield strategy
    for stage in strategy.own_stages if isinstance(strategy, Cascade) else ():
        yield from _parts(stage, where, field)


def _check_part(
    scenario: Scenario, strategy: Strategy, endpoint: Endpoint, deployment: str, manner: Manner, field: str
) -> None:
    of = strategy.attempt if isinstance(strategy, (MajorityVote, BestOfN)) else strategy
    if isinstance(of, (Single, BudgetForcing)) and forces(of) and not endpoint.takes_prefix:
        expected = (
            f"takes_prefix: true of deployment {deployment} in the endpoints' file (vLLM and SGLang continue an answer that "
            "was begun), or a strategy that ends thinking nowhere and makes none go on"
        )
        raise InputError(scenario.path, field, repr(strategy), expected)
    alike = endpoint.body.get("seed") is not None or endpoint.body.get("temperature") == 0
    if isinstance(strategy, (MajorityVote, BestOfN)) and strategy.n > 1 and alike:
        expected = f"no seed, and no temperature of 0, in the body of {deployment}: attempts would be alike"
        raise InputError(scenario.path, field, repr(strategy), expected)
    if isinstance(strategy, BestOfN) and strategy.verifier is None and manner.judge is None:
        expected = "verifier='DEPLOYMENT', or a function Manner(judge=...) that scores answers: something must choose"
        raise InputError(scenario.path, field, repr(strategy), expected)
    if isinstance(strategy, Cascade) and strategy.judge is None and manner.judge is None:
        for stage in strategy.stages[:-1]:
            named = scenario.parsed_strategy(stage) if isinstance(stage, str) else stage
            if not isinstance(named, MajorityVote):
                expected = (
                    "judge='DEPLOYMENT', a function Manner(judge=...) that scores answers, or stages that vote: something "
                    f"must judge what {stage} answers"
                )
                raise InputError(scenario.path, field, repr(strategy), expected)


__all__ = ["arms_asked", "check"]
