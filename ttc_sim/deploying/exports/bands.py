"""A plan's policy as bands of a score, source by source, and the arms that its requests may come to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from ttc_sim.deploying.arms import offered_to, reached
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import PROMPT_TOKENS, TURN, Always, Banded, LeastLoaded, Overflow, Policy, Threshold, innermost

ALL = "traffic"
"""The one source of a workload that names none."""


@dataclass(frozen=True)
class Bands:
    """Arms of one source's requests, by bands of one score.

    Attributes:
        score: ``difficulty``, ``p:MODEL``, ``prompt_tokens`` or another that the predictor gives; ``None`` where all requests go to
            one arm.
        edges: increasing; band ``k`` holds scores from ``edges[k - 1]`` up to, not including, ``edges[k]``.
        arms: one more than edges, that of the lowest scores first.
    """

    score: str | None
    edges: tuple[float, ...]
    arms: tuple[str, ...]

    def arm(self, value: float) -> str:
        """Arm of a request with that score."""
        return self.arms[bisect_right(self.edges, value)]

    @property
    def needs_predictor(self) -> bool:
        """Whether the score is a predicted one."""
        return self.score not in (None, PROMPT_TOKENS)


def sources_of(plan: SavedPlan) -> tuple[str, ...]:
    """Sources of requests, as the plan tells them apart."""
    return tuple(plan.scenario.workload.sources) or (ALL,)


def policy_of(plan: SavedPlan, source: str) -> Policy:
    """The policy of a source."""
    policy = plan.scenario.parsed_policy()
    assert policy is not None  # a saved plan has one
    return policy.for_source(source)


def bands_of(plan: SavedPlan) -> Mapping[str, Bands | None]:
    """By source, its policy as bands; ``None`` where it is none: ``Utility``, live load, what follows sessions, or one's own."""
    return {source: bands_by(policy_of(plan, source)) for source in sources_of(plan)}


def bands_by(policy: Policy) -> Bands | None:
    """A policy as bands; ``None`` where it is none."""
    if getattr(policy, "score", None) == TURN:
        return None  # which turn a request is, whoever asks does not say
    # Of these very classes: one that inherits may choose otherwise.
    if type(policy) is Always:
        return Bands(None, (), (policy.arm,))
    if type(policy) is Threshold:
        return Bands(policy.score, (float(policy.at),), (policy.below, policy.above))
    if type(policy) is Banded:
        edges, arms = tuple(float(edge) for edge in policy.edges), tuple(policy.arms)
        return Bands(policy.score if edges else None, edges, arms)
    return None


def needs_predictor(plan: SavedPlan) -> bool:
    """Whether a request's arm, of any source, may depend on what a predictor says of it."""
    for source in sources_of(plan):
        policy = innermost(policy_of(plan, source))
        mine = bands_by(policy)
        if mine is not None and mine.needs_predictor:
            return True
        if mine is None and not isinstance(policy, (Overflow, LeastLoaded)) and getattr(policy, "score", None) != TURN:
            return True
    return False


def offered(plan: SavedPlan, source: str) -> tuple[str, ...]:
    """Arms that the source's policy may choose, in the plan's order unless the policy names them."""
    policy = policy_of(plan, source)
    return policy.arm_names() or offered_to(plan.scenario, source, policy)


def arms_in_use(plan: SavedPlan) -> tuple[str, ...]:
    """Arms that a request may come to: chosen, as a fallback, as a stage of a cascade, or once a budget is spent."""
    scenario = plan.scenario
    found = dict.fromkeys(arm for source in sources_of(plan) for arm in offered(plan, source))
    found |= dict.fromkeys(scenario.budget.arms if scenario.budget is not None else ())
    return reached(scenario, list(found))


def deployments_in_use(plan: SavedPlan) -> tuple[str, ...]:
    """Deployments that requests may come to, those of verifiers and judges last."""
    scenario, arms = plan.scenario, arms_in_use(plan)
    served = [scenario.arms[arm].deployment for arm in arms]
    read = [name for arm in arms for name in scenario.parsed_strategy(arm).verifiers]
    return tuple(dict.fromkeys((*served, *read)))


__all__ = [
    "ALL",
    "Bands",
    "arms_in_use",
    "bands_by",
    "bands_of",
    "deployments_in_use",
    "needs_predictor",
    "offered",
    "policy_of",
    "sources_of",
]
