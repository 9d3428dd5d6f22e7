"""What a proposer is asked and what it answers: the next kind of policy to search among is one more of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.times import DAY_S
from ttc_sim.optimizer.proposing.objectives import Goal, Slowness, objectives_of
from ttc_sim.policies import PerSource
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Api, Target, Targets
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.model import Model
from ttc_sim.workload.population import Population

# What to make best of where the limits alone say how far: of targets, a proposer reads only that.
CHEAPEST = Targets(minimize="cost", accuracy=0.0)
MOST_ACCURATE = Targets(maximize="accuracy")


def most_usd_per_request(targets: Targets, rate_per_s: float) -> float | None:
    """What a request may cost at most, by the targets on all requests; ``None`` if that is not limited."""
    daily = targets.cost_usd_per_day
    limits = [targets.cost_usd_per_request, None if daily is None else daily / (rate_per_s * DAY_S)]
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass(frozen=True)
class Limits:
    """What a proposal must keep to: the targets, with the margins that simulation has shown to be needed.

    Attributes:
        accuracy: least expected accuracy or, of traffic without problems, least share of answers that no cap cuts off; ``None`` if
            not asked for.
        cost_usd_per_request: most expected cost.
        late: per objective (:mod:`ttc_sim.optimizer.proposing.objectives`), how much of it may be broken: of a percentile, most
            requests (share) later than its limit.
        timeout_rate: most requests that run into a timeout.
        utilization: most load of a GPU pool.
    """

    accuracy: float | None = None
    cost_usd_per_request: float | None = None
    late: Mapping[str, float] = field(default_factory=dict)
    timeout_rate: float | None = None
    utilization: float = 0.8

    @classmethod
    def of(cls, targets: Targets, utilization: float, rate_per_s: float, budgets: Iterable[Target] = ()) -> Limits:
        """The targets as they stand, before anything was simulated.

        Args:
            utilization: most load of a GPU pool; rate_per_s: of the requests, by which a day's cost is one of each request.
            budgets: hard ones, as :func:`objectives_of` takes them.
        """
        return cls(
            accuracy=targets.accuracy if targets.cut_off_rate is None else 1 - targets.cut_off_rate,
            cost_usd_per_request=most_usd_per_request(targets, rate_per_s),
            late={name: one.most for name, one in objectives_of(targets, rate_per_s * DAY_S, budgets).items()},
            timeout_rate=targets.timeout_rate,
            utilization=utilization,
        )


@dataclass(frozen=True)
class Question:
    """What a proposer is asked: the best policy within the limits, by expectation over the measured attempts.

    Attributes:
        expectations: what each of ``V`` arms is expected to make of each of ``P`` problems.
        targets: say what is to be made best of.
        limits: what to keep to.
        late: (limits + 1, V, P) what is broken of each objective, such as the chance of being later than a limit, timeouts last.
        weight: (P,) share of the requests that each problem stands for; one with weight 0 does not count.
        rate_per_s: mean rate of all requests, which turns replica seconds per request into load.
        replicas: per GPU pool, the numbers of replicas to choose from, instead of those of the search space; likewise, per endpoint
            with a fixed fee, 1.
        goal: of one program, where that is not what the targets say.
        slowness: how often arms take how long, where a percentile is made least; bad: (V, P) chances to be outside the
            service-level objectives, where goodput is made most.
    """

    expectations: Expectations
    targets: Targets
    limits: Limits
    late: F64
    weight: F64
    rate_per_s: float
    replicas: Mapping[str, Sequence[int]] | None = None
    goal: Goal | None = None
    slowness: Slowness | None = None
    bad: F64 | None = None

    @property
    def aim(self) -> Goal:
        """What a program makes least."""
        return self.goal or (Goal(right=1.0) if self.targets.most_accurate else Goal(usd=1.0))

    def value(self, arm: I64, accuracy: float, usd: float) -> float:
        """What is made best of, the lower the better, where each problem goes to one arm, (P,).

        Args:
            accuracy: expected of that choice; usd: US dollars a request.
        """
        targets = self.targets
        if targets.maximize == "accuracy_per_usd":
            return -accuracy / usd if usd > 0 else -math.inf
        if self.slowness is not None:
            return self.slowness.percentile(arm, self.weight)
        if self.bad is not None:
            return float(self.bad[arm, np.arange(len(arm))] @ self.weight) - 1.0
        return -accuracy if targets.most_accurate else usd

    def sizes(self, pool: str) -> tuple[int, ...]:
        """Numbers of replicas that a GPU pool may have, smallest first; none if it is closed. Of an endpoint with a fee 1."""
        if self.replicas is not None:
            return tuple(sorted(set(self.replicas.get(pool, ()))))
        return allowed_replicas(self.expectations.model, pool)


def allowed_replicas(model: Model, pool: str) -> tuple[int, ...]:
    """Numbers of replicas of a GPU pool that the search space allows, smallest first; its own if the space names none.

    An endpoint with a fixed fee has one, which is paid for or not used.
    """
    own = model.scenario.deployments[pool]
    if isinstance(own, Api):
        return (own.planned_replicas,)
    return tuple(sorted(set(model.scenario.search.replicas.get(pool, [own.planned_replicas]))))


@dataclass(frozen=True)
class Proposal:
    """A policy and what it is expected to come to, before any queue.

    Attributes:
        policy: per source.
        replicas: per GPU pool in use; 1 of an endpoint in use that has a fixed fee.
        accuracy, cost_usd_per_request: expectations.
        excess: per limit that could not be kept, by how much it is missed, relative to the limit; empty if all are kept.
        value: what is made best of, the lower the better: of goodput and ratios the negative. NaN where nothing was proposed by it.
        responses: what the policy expects of each arm, where it needs that.
        price_of_accuracy: US dollars that a right answer is worth to the policy; ``None`` where it names no price.
    """

    policy: PerSource
    replicas: Mapping[str, int]
    accuracy: float
    cost_usd_per_request: float
    excess: Mapping[str, float]
    responses: Mapping[str, Response] | None = None
    price_of_accuracy: float | None = None
    value: float = math.nan

    def choose(self, population: Population, arms: Sequence[str]) -> I64:
        """Index of the arm of each problem of the population."""
        return self.policy.choose(replace(population, responses=self.responses).as_requests(), arms)

    @property
    def notation(self) -> dict[str, str]:
        """The policy of each source, as scenarios write it."""
        return {source: repr(one) for source, one in self.policy.policies.items()}


class Proposer(Protocol):
    """One kind of policy to search among.

    Proposals of every kind but the simplest must name their ``price_of_accuracy``: beside the simplest, a difference in accuracy is
    turned into dollars by it.
    """

    def propose(self, question: Question) -> Proposal:
        """The best policy of its kind within the limits or, if none keeps them, one that misses them by least."""
