"""The prices of the policy ``Utility``: shadow prices of the targets.

For fixed prices the best arm of each request is plain, so two numbers are looked for. The program over what is expected of every
arm for every problem (:mod:`ttc_sim.optimizer.proposing.mixtures`) gives the first guess: its dual of the accuracy target is the
price of a right answer, its duals of the pools' capacity are what a GPU second is charged. Then the price of accuracy is bisected
until what the measured attempts really add up to keeps the target, for several prices of a second, since no target is on mean
latency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.mixtures import ArmSums, best_mixture, sums_by_arm
from ttc_sim.optimizer.proposing.proposal import Proposal, Question
from ttc_sim.policies import PerSource, Utility
from ttc_sim.policies.predicted import Predicted, predict
from ttc_sim.policies.responses import Response
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting, expected_seconds
from ttc_sim.simulation.response_fit import fit_responses, gpu_price

_BRACKET = 1e4  # how far the price of accuracy may lie from the first guess, as a factor
_LADDER = 17  # prices tried over that range
_STEPS = 12  # halvings between two of them
_SECONDS = (
    1 / 16,
    1 / 4,
    1.0,
    4.0,
)  # prices of a second, in terms of what an average second of the average request costs
_MORE_SECONDS = (16.0, 64.0, 256.0)  # where nothing is worth more than time
_GPU = (0.0, 0.25, 1.0, 4.0)  # prices of a GPU second, in terms of what it costs in a pool loaded as far as it may be
LEAST_GAIN = 0.005  # a second price has to make the plan that much better, or it stays 0


@dataclass(frozen=True)
class _Point:
    """One pair of prices, and what it comes to on the measured problems."""

    utility: Utility
    gpu_usd_per_s: Mapping[int, float]
    replicas: Mapping[str, int]
    accuracy: float
    cost_usd_per_request: float
    excess: Mapping[str, float]
    value: float

    @property
    def rank(self) -> tuple[float, float]:
        """Limits missed first, then what is made best of: the lower the better."""
        return (sum(self.excess.values()), self.value)


@dataclass(frozen=True)
class UtilityProposer:
    """Proposes prices for ``Utility``, the same for all sources.

    Attributes:
        seconds: (V, P) expected latency, queue left aside.
    """

    seconds: F64

    @classmethod
    def starting(cls, expectations: Expectations, waiting: Mapping[str, Waiting]) -> UtilityProposer:
        """With the seconds that follow from the pools' times as they are known when the search starts."""
        return cls(expected_seconds(expectations, waiting))

    def propose(self, question: Question) -> Proposal:
        """The best prices within the limits or, if there are none, those that miss them by least.

        Responses are fitted on problems whose weight is not 0.
        """
        search = _PriceSearch(question, self.seconds)
        point = search.best()
        return Proposal(
            policy=PerSource(dict.fromkeys(question.expectations.population.sources, point.utility)),
            replicas=point.replicas,
            accuracy=point.accuracy,
            cost_usd_per_request=point.cost_usd_per_request,
            excess=point.excess,
            responses=search.charged(point.gpu_usd_per_s),
            price_of_accuracy=point.utility.price_of_accuracy,
            value=point.value,
        )


class _PriceSearch:
    """Responses and sums, fixed; prices are what is tried."""

    def __init__(self, question: Question, seconds: F64) -> None:
        self.question, self.expectations = question, question.expectations
        self.targets, self.limits, self.rate_per_s = question.targets, question.limits, question.rate_per_s
        self.names = self.expectations.model.arm_names
        self.responses = fit_responses(self.expectations, seconds, question.weight)
        self.table: ArmSums = sums_by_arm(question)
        requests = replace(self.expectations.population.as_requests(), responses=self.responses)
        self.expected: list[Predicted] = list(predict(self.responses, requests, self.names))
        self.base = gpu_price(self.expectations.model)

    def charged(self, gpu_usd_per_s: Mapping[int, float]) -> dict[str, Response]:
        """The responses with these prices of GPU seconds."""
        deployment = {arm.name: arm.deployment for arm in self.expectations.model.arms}
        return {
            name: response.model_copy(update={"gpu_usd_per_s": gpu_usd_per_s[deployment[name]]})
            if response.gpu_s is not None and deployment[name] in gpu_usd_per_s
            else response
            for name, response in self.responses.items()
        }

    def best(self) -> _Point:
        """The best point found."""
        guess, duals = self.first_guess()
        prices = [duals, *({d: _digits(g * usd) for d, usd in self.base.items()} for g in _GPU)]
        tried = [self.bisected(guess, 0.0, price) for price in (prices if self.base else prices[:1])]
        best = min(tried, key=self.rank)
        scale = self.usd_per_second()
        ladder = [scale * factor for factor in (*_SECONDS, *(_MORE_SECONDS if self.targets.timed else ()))]
        for _ in range(2):
            timed = [self.bisected(guess, _digits(price), best.gpu_usd_per_s) for price in ladder]
            better = min(timed, key=self.rank)
            (missed, objective), (before, held) = self.rank(better), self.rank(best)
            if (missed, objective) >= (before, held) or (
                missed == before and objective > held - LEAST_GAIN * abs(held)
            ):
                break
            best = better
            ladder = [best.utility.price_of_second * factor for factor in (0.5, 2.0)]
        return best

    def rank(self, point: _Point) -> tuple[float, float]:
        return point.rank

    def first_guess(self) -> tuple[float, dict[int, float]]:
        """Prices of a right answer and of the pools' GPU seconds: the duals of the program over what is expected."""
        shape = self.expectations.correct.shape
        correct, bill, gpu_s = (np.full(shape, np.nan) for _ in range(3))
        for one in self.expected:
            for values, expected in ((correct, one.correct), (bill, one.api_cost_usd), (gpu_s, one.gpu_s)):
                values[one.arm] = np.where(one.offered, expected, np.nan)
        believed = replace(self.expectations, correct=correct, api_cost_usd=bill, gpu_s=gpu_s)
        table = sums_by_arm(replace(self.question, expectations=believed))
        only = replace(self.limits, late={}, timeout_rate=None)
        found = best_mixture(table, self.targets, only, whole=False)
        fallback = 100.0 * max(float(np.nanmax(self.expectations.api_cost_usd)), 1e-4)
        if found is None:
            return fallback, dict(self.base)
        usd = 1.0  # US dollars per unit of the objective
        price = found.prices.get("accuracy", 0.0)
        if self.targets.most_accurate:
            per_usd = found.prices.get("cost_usd_per_request", 0.0)
            price = usd = 1.0 / per_usd if per_usd > 0 else 0.0
        gpu = {
            # A pool that is not there has no price; one far above its cost keeps everything away from it.
            d: _digits(min(found.prices[f"load {d}"] * usd * self.rate_per_s, 100 * base))
            for d, base in self.base.items()
        }
        return (price or fallback), gpu

    def usd_per_second(self) -> float:
        """What the average request costs for each second that it takes, by what is expected of all arms."""
        usd = sum(float((one.api_cost_usd + one.gpu_usd_per_s * one.gpu_s).mean()) for one in self.expected)
        return usd / max(sum(float(one.seconds.mean()) for one in self.expected), 1e-9)

    def bisected(self, guess: float, price_of_second: float, gpu_usd_per_s: Mapping[int, float]) -> _Point:
        """The price of accuracy that is best for given other prices."""
        fixed = np.full(self.expectations.correct.shape, np.inf)
        correct = np.zeros_like(fixed)
        responses = self.charged(gpu_usd_per_s)
        for one in self.expected:
            charge = responses[self.names[one.arm]].gpu_usd_per_s
            # The same sums in the same order as the policy makes them, so that rounding decides no tie another way.
            fixed[one.arm] = np.where(one.offered, one.api_cost_usd + charge * one.gpu_s, np.inf)
            correct[one.arm] = one.correct
        slow = np.zeros_like(fixed)
        for one in self.expected:
            slow[one.arm] = price_of_second * one.seconds

        def at(price: float) -> _Point:
            arm: I64 = (price * correct - fixed - slow).argmax(axis=0)
            return self.point(Utility(price, price_of_second), gpu_usd_per_s, arm)

        # What a price comes to is nearly, not quite, monotone in it: late requests are many where prices are lowest and highest.
        ladder = [0.0, *(_digits(price) for price in guess * np.geomspace(1 / _BRACKET, _BRACKET, _LADDER))]
        rungs = [at(price) for price in ladder]
        k = min(range(len(rungs)), key=lambda k: self.rank(rungs[k]))
        best = rungs[k]
        low, high = ladder[max(k - 1, 0)], ladder[min(k + 1, len(ladder) - 1)]
        if not (self.targets.cheapest or self.targets.most_accurate):
            return self.narrowed(at, best, low, high)
        for _ in range(_STEPS):
            price = float(np.sqrt(low * high)) if low > 0 else high / 2
            middle = at(_digits(price))
            best = min((best, middle), key=self.rank)
            if self.dearer(middle):
                low = price
            else:
                high = price
        return best

    def narrowed(self, at: Callable[[float], _Point], best: _Point, low: float, high: float) -> _Point:
        """The best of prices between two, ever closer to the best so far, where it is not plain on which side the best lies."""
        for _ in range(_STEPS):
            held = best.utility.price_of_accuracy
            between = [held / 2 if low <= 0 else float(np.sqrt(low * held)), float(np.sqrt(held * high))]
            below, above = (at(_digits(price)) for price in between)
            nearest = min((best, below, above), key=self.rank)
            if nearest is best:
                low, high = between
            elif nearest is below:
                high = held
            else:
                low = held
            best = nearest
        return best

    def dearer(self, point: _Point) -> bool:
        """Whether a higher price of accuracy should be tried next."""
        if self.targets.most_accurate:
            return not point.excess
        return "accuracy" in point.excess

    def point(self, utility: Utility, gpu_usd_per_s: Mapping[int, float], arm: I64) -> _Point:
        """What a choice comes to: the measured attempts' sums, and the fewest replicas that carry its load."""
        found = self.table.of_choice(arm)
        accuracy, cost, late = float(found[0]), float(found[1]), found[2 : 2 + len(self.table.late)]
        load = found[2 + len(self.table.late) :]
        limits, model = self.limits, self.expectations.model
        replicas: dict[str, int] = {}
        over = 0.0
        for k, (d, sizes) in enumerate(zip(self.table.pools, self.table.sizes, strict=True)):
            if load[k] > 0:
                needed = float(load[k]) / limits.utilization
                size = next((size for size in sizes if size >= needed - 1e-9), sizes[-1])
                replicas[model.deployment_names[d]] = size
                cost += size * float(self.table.usd[k])
                over = max(over, needed / size - 1)
        asked = [(name, float(late[k]), most) for k, (name, most) in enumerate(limits.late.items())]
        if limits.timeout_rate is not None:
            asked.append(("timeout_rate", float(late[-1]), limits.timeout_rate))
        if limits.cost_usd_per_request is not None:
            asked.append(("cost_usd_per_request", cost, limits.cost_usd_per_request))
        if limits.accuracy is not None:
            asked.append(("accuracy", -accuracy, -limits.accuracy))
        excess = {name: (x - most) / max(abs(most), 1e-9) for name, x, most in asked if x > most + 1e-9}
        if over > 1e-9:
            excess["utilization"] = over
        value = self.question.value(arm, accuracy, cost)
        return _Point(utility, gpu_usd_per_s, replicas, accuracy, cost, excess, value)


def _digits(price: float) -> float:
    """Four digits, as a person reads; what is evaluated is the rounded price."""
    return float(f"{price:.4g}")
