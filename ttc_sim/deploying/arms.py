"""The arms of a plan, as they are carried out on live requests."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ttc_sim.base.errors import InputError
from ttc_sim.base.plugins import is_shipped
from ttc_sim.policies import Policy
from ttc_sim.scenario import GpuPool, Scenario, has_fixed_cost
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, UserStrategy


@dataclass(frozen=True)
class LiveArm:
    """One arm.

    Attributes:
        strategy: what is done; deployment: that serves it, and begins_at: the one that its first call goes to, which is another
            where a cascade begins with another arm.
        max_tokens: as of :class:`ttc_sim.deploying.decisions.Decision`; fallbacks: as there.
    """

    strategy: Strategy
    deployment: str
    begins_at: str
    max_tokens: int | None
    fallbacks: tuple[str, ...]


def live_arm(scenario: Scenario, name: str) -> LiveArm:
    """An arm of the scenario, by its name."""
    strategy = scenario.parsed_strategy(name)
    deployment = scenario.arms[name].deployment
    first = strategy.stages[0] if isinstance(strategy, Cascade) else None
    return LiveArm(
        strategy=strategy,
        deployment=deployment,
        begins_at=scenario.arms[first].deployment if isinstance(first, str) else deployment,
        max_tokens=_most_tokens(scenario, strategy),
        fallbacks=tuple(scenario.path_of(name)[1:]),
    )


def _most_tokens(scenario: Scenario, strategy: Strategy) -> int | None:
    """Most output tokens of one attempt. A cap that forces an answer is one on thinking: what comes after has no limit."""
    if isinstance(strategy, Cascade):
        stages = [scenario.parsed_strategy(one) if isinstance(one, str) else one for one in strategy.stages]
        found = [_most_tokens(scenario, stage) for stage in stages]
        known = [most for most in found if most is not None]
        return max(known) if len(known) == len(found) else None
    attempt = strategy.attempt if isinstance(strategy, (MajorityVote, BestOfN)) else strategy
    truncates = isinstance(attempt, Single) and attempt.on_cap == "truncate"
    return attempt.attempt_cap if truncates else None


def offered_to(scenario: Scenario, source: str, policy: Policy) -> tuple[str, ...]:
    """Arms that a policy may send requests of a source to, unless it names some itself."""
    if policy.uses_responses and scenario.responses is not None:
        fitted = scenario.responses
        return tuple(name for name in scenario.arms if name in fitted and source in fitted[name].sources)
    open_to = {name: arm.sources for name, arm in scenario.arms.items()}
    return tuple(name for name, sources in open_to.items() if sources is None or source in sources)


def reached(scenario: Scenario, names: Collection[str]) -> tuple[str, ...]:
    """These arms, those that they fall back on, and those that any of these send requests on to."""
    found: dict[str, None] = {}
    left = list(names)
    while left:
        name = left.pop(0)
        if name not in found:
            found[name] = None
            left += [*scenario.path_of(name)[1:], *scenario.parsed_strategy(name).other_arms]
    return tuple(found)


def deployments_of(scenario: Scenario, arm: str) -> tuple[str, ...]:
    """Where an arm's calls may go."""
    strategy = scenario.parsed_strategy(arm)
    others = [name for other in strategy.other_arms for name in deployments_of(scenario, other)]
    return tuple(dict.fromkeys((scenario.arms[arm].deployment, *strategy.verifiers, *others)))


def on_pools(scenario: Scenario, arm: str) -> bool:
    """Whether any of its calls may go to a GPU pool."""
    return any(isinstance(scenario.deployments[name], GpuPool) for name in deployments_of(scenario, arm))


def check_strategies(scenario: Scenario, names: Collection[str], where: str) -> None:
    """Refuse arms that are a user's own strategy.

    Raises:
        InputError: one is.
    """
    for name in names:
        for part in _parts(scenario.parsed_strategy(name)):
            if isinstance(part, UserStrategy) or not is_shipped(type(part)):
                expected = (
                    "a strategy that comes with ttc-sim ("
                    + ", ".join(kind.__name__ for kind in (Single, BudgetForcing, MajorityVote, BestOfN, Cascade))
                    + "): one of your own says what becomes of measured attempts, and not which calls are to be made"
                )
                raise InputError(where, f"scenario.arms.{name}.strategy", repr(part), expected)


def check_single_calls(scenario: Scenario, names: Collection[str], where: str) -> None:
    """Refuse arms that take more than one call with a limit on its output.

    Raises:
        InputError: one does.
    """
    for name in names:
        strategy = scenario.parsed_strategy(name)
        if not isinstance(strategy, Single) or (strategy.cap is not None and strategy.on_cap != "truncate"):
            expected = (
                "Single(), or Single(cap=...) that truncates: one call with max_tokens, which is all that is done here"
            )
            raise InputError(where, f"scenario.arms.{name}.strategy", repr(strategy), expected)


def _parts(strategy: Strategy) -> Iterator[Strategy]:
    yield strategy
    if isinstance(strategy, Cascade):
        yield from strategy.own_stages


def not_running(scenario: Scenario, chosen: Collection[str], arms: Collection[str]) -> tuple[str, ...]:
    """Of some arms those whose calls may go to a deployment that costs something for being there, and that none of the arms that
    may be chosen uses: a plan does not pay for it."""
    used = {place for name in reached(scenario, chosen) for place in deployments_of(scenario, name)}
    return tuple(
        name
        for name in arms
        if any(
            place not in used and has_fixed_cost(scenario.deployments[place])
            for one in reached(scenario, [name])
            for place in deployments_of(scenario, one)
        )
    )


__all__ = [
    "LiveArm",
    "check_single_calls",
    "check_strategies",
    "deployments_of",
    "live_arm",
    "not_running",
    "offered_to",
    "on_pools",
    "reached",
]
