"""What a search is about, fixed before it starts, and what it believes of times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.novelty import Novelty, novelty_of
from ttc_sim.optimizer.proposing.proposal import LATENCY_TARGETS, Limits, Question
from ttc_sim.scenario import GpuPool, Targets
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting, first_guess, late_share
from ttc_sim.simulation.model import Model
from ttc_sim.workload.population import Population

Progress = Callable[[str], None]
"""Called with a line about each step."""

_LEAST_SERVED = 20  # answers of a pool below which its times say nothing
_TYPICAL = 0.75  # quantile of the times seen: rather too slow than too fast


@dataclass(frozen=True)
class Timing:
    """How long arms are believed to take, by what the GPU pools last gave in simulation.

    Attributes:
        expectations: of the arms; limits_s: (limits,) seconds of the latency targets asked for.
        waiting: per GPU pool, the times that a request meets there.
    """

    expectations: Expectations
    limits_s: tuple[float, ...]
    waiting: Mapping[str, Waiting]

    @cached_property
    def late(self) -> F64:
        """(limits + 1, V, P) chances of being later than each limit, timeouts last."""
        return late_share(self.expectations, np.array(self.limits_s), self.waiting)

    def after(self, model: Model, runs: Sequence[Run]) -> Timing:
        """The same with the times to first token and per token that the pools gave in these runs of the model."""
        waiting = dict(self.waiting)
        for name in self.waiting:
            of_pool = np.array([model.deployment_names[arm.deployment] == name for arm in model.arms])
            first: list[F64] = []
            rest: list[F64] = []
            for run in runs:
                served = of_pool[run.arm] & ~np.isnan(run.result.first_token_s) & (run.result.status == 0)
                ttft = run.result.first_token_s - run.result.arrival_s
                tokens = (run.reasoning_tokens + run.visible_tokens).astype(np.float64)
                first.append(ttft[served])
                rest.append((run.latency_s - ttft)[served] / np.maximum(tokens[served] - 1, 1))
            if sum(len(part) for part in first) >= _LEAST_SERVED:
                waiting[name] = Waiting(
                    float(np.quantile(np.concatenate(first), _TYPICAL)),
                    float(np.quantile(np.concatenate(rest), _TYPICAL)),
                )
        # Chances of being late are worked out anew only where the pools' times have changed.
        return self if waiting == self.waiting else replace(self, waiting=waiting)


@dataclass(frozen=True)
class PlanningTask:
    """What is to be planned.

    Attributes:
        expectations: every arm of the search space, a cap each, on every problem.
        targets: of the scenario.
        rate_per_s: mean rate of all requests.
        novelty: share of the traffic that the predictor has seen nothing like; ``None`` where that is not scored.
    """

    expectations: Expectations
    targets: Targets
    rate_per_s: float
    novelty: Novelty | None

    @classmethod
    def of(cls, expectations: Expectations, targets: Targets) -> PlanningTask:
        """The targets to be met with these arms.

        Raises:
            InputError: GPU pools are to be sized, and the arrivals have no rate of their own.
        """
        model = expectations.model
        rate_per_s = draw(model, 0, purpose="search").traffic.rate_per_s
        if not math.isfinite(rate_per_s) and any(isinstance(pool, GpuPool) for pool in model.deployments):
            process = model.scenario.workload.arrivals.process
            expected = "arrivals with a rate of their own, to size GPU pools by: that of a closed loop follows from its answers"
            raise InputError(model.scenario.path, "workload.arrivals.process", process, expected)
        return cls(expectations, targets, rate_per_s, novelty_of(expectations.population))

    @property
    def model(self) -> Model:
        """The scenario looked up, with an arm for every cap."""
        return self.expectations.model

    @property
    def population(self) -> Population:
        """The problems."""
        return self.expectations.population

    def limits(self) -> Limits:
        """The targets as they stand, before anything was simulated."""
        return Limits.of(self.targets, self.model.scenario.search.utilization)

    def timing(self) -> Timing:
        """What is believed of times before anything was simulated."""
        asked = [getattr(self.targets, name) for name in LATENCY_TARGETS]
        limits_s = tuple(float(limit) for limit in asked if limit is not None)
        return Timing(self.expectations, limits_s, first_guess(self.model))

    def question(
        self, limits: Limits, timing: Timing, *, weight: F64 | None = None, targets: Targets | None = None
    ) -> Question:
        """What to ask a proposer.

        Args:
            weight: (P,) of each problem, instead of the population's own; targets: instead of the task's own.
        """
        return Question(
            expectations=self.expectations,
            targets=self.targets if targets is None else targets,
            limits=limits,
            late=timing.late,
            weight=self.population.weight if weight is None else weight,
            rate_per_s=self.rate_per_s,
        )

    def pools_usd_per_request(self, replicas: Mapping[str, int]) -> float:
        """Bill of these replicas, US dollars per request."""
        hourly = 0.0
        for name, count in replicas.items():
            pool = self.model.scenario.deployments[name]
            assert isinstance(pool, GpuPool)
            hourly += count * pool.hourly_usd
        return hourly / 3600 / self.rate_per_s
