"""What each arm is expected to make of each problem, over the measured attempts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, columns
from ttc_sim.engine.contexts import context_of
from ttc_sim.policies import Policy, choose_arms
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.step_time import decode_seconds, prefill_seconds
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model, ResolvedArm, deployment_of, trial_of
from ttc_sim.simulation.pool_seconds import full_batch
from ttc_sim.strategies import Single, carry_out, is_attempt
from ttc_sim.strategies.outcomes import Outcome, Trial
from ttc_sim.workload.population import Population


class Votes(NamedTuple):
    """Draws for strategies whose expectation over attempts has no short closed form.

    Attributes:
        each: draws a problem; least: draws in all.
    """

    each: int
    least: int


_VOTES = Votes(32, 20_000)
_FEW_VOTES = Votes(8, 4_000)


@dataclass(frozen=True)
class Ways:
    """Equally weighted ways that requests to an arm may go, whatever the speed of its deployments.

    Attributes:
        rows: problems that the arm is offered for; owner: (ways,) the position in ``rows`` of each way.
        deployments: of each stage; tokens: (stages, ways) of its longest sample; runs: (stages, ways) whether it does.
    """

    rows: I64
    owner: I64
    deployments: tuple[int, ...]
    tokens: F64
    runs: NDArray[np.bool_]


@dataclass(frozen=True)
class Expectations:
    """Expectations over the measured attempts, for each of ``V`` arms and ``P`` problems; NaN where not offered.

    Attributes:
        model: with the arms expanded by cap.
        correct: (V, P) chance of a right answer, before timeouts.
        prompt, reasoning, visible: (V, P) tokens.
        api_cost_usd: (V, P) bill of API calls.
        gpu_s: (V, P) seconds of a replica at full batch.
        offered: (V, S) whether the arm may serve the source.
    """

    model: Model
    correct: F64
    prompt: F64
    reasoning: F64
    visible: F64
    api_cost_usd: F64
    gpu_s: F64
    offered: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    _doubts: dict[int, F64] = field(default_factory=dict, init=False, repr=False, compare=False)
    _ways: dict[int, Ways] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def population(self) -> Population:
        """The problems."""
        assert self.model.population is not None
        return self.model.population

    def under(self, arm: I64) -> dict[str, F64]:
        """Per problem, the expectations under the arm it is sent to: what :func:`ttc_sim.simulation.summary.summarize` takes."""
        at = np.arange(len(arm))
        return {
            "arm": arm.astype(np.float64),
            "correct": self.correct[arm, at],
            "correct_doubt": self.doubt(arm),
            "api_cost_usd": self.api_cost_usd[arm, at],
            "prompt": self.prompt[arm, at],
            "reasoning": self.reasoning[arm, at],
            "visible": self.visible[arm, at],
        }

    def doubt(self, arm: I64) -> F64:
        """(P,) how much less often right, under the arm it is sent to, if what is fitted were one standard error off."""
        out = np.zeros(len(arm))
        for v in np.unique(arm):
            if int(v) not in self._doubts:
                self._doubts[int(v)] = self._doubt(int(v))
            here = arm == v
            out[here] = self._doubts[int(v)][here]
        return out

    def ways(self, v: int) -> Ways:
        """That requests to an arm may go: few of each problem, which say enough of a share of all requests; worked out once."""
        if v not in self._ways:
            arm = self.model.arms[v]
            rows = np.flatnonzero(self.offered[v][self.population.source])
            owner, outcome = spread_out(self.model, arm, rows, votes=_FEW_VOTES)
            tokens, runs = np.zeros((2, len(outcome.stages), len(owner)))
            for k, stage in enumerate(outcome.stages):
                hidden, shown = stage.cut_tokens
                tokens[k], runs[k] = (hidden + shown).max(axis=1), stage.runs
            deployments = tuple(deployment_of(self.model, arm, stage) for stage in outcome.stages)
            self._ways[v] = Ways(rows, owner, deployments, tokens, runs.astype(np.bool_))
        return self._ways[v]

    def _doubt(self, v: int) -> F64:
        item, out = self.model.arms[v], np.zeros(self.correct.shape[1])
        if item.attempts is None or is_attempt(item.strategy):
            return out
        rows = np.flatnonzero(self.offered[v][self.population.source])
        less, more = (spread_out(self.model, item, rows, doubted) for doubted in (-1.0, 1.0))
        change = (less[1].correct.astype(np.float64) - more[1].correct) / 2
        out[rows] = np.bincount(less[0], weights=change, minlength=len(rows)) / np.bincount(
            less[0], minlength=len(rows)
        )
        return out


def expected_under(model: Model, policy: Policy, runs: Sequence[Run]) -> dict[str, F64] | None:
    """What is expected of each problem's arm under a policy; ``None`` where a problem has no arm of its own.

    That is so where a policy looks at live load or at the clock, or is a function of the user's: the same problem then goes here or
    there, as the runs tell; and where only they tell how many requests each source sends.
    """
    population = model.population
    if population is None or not policy.looks_at_problem_alone or np.isnan(population.share).any():
        return None
    arm = choose_arms(policy, population.as_requests(), model.arm_names)
    if any(run.row is None or (run.arm != arm[run.row]).any() for run in runs):
        return None
    return expect_arms(model, set(arm.tolist())).under(arm)


def expect_arms(model: Model, only: Collection[int] | None = None) -> Expectations:
    """Work out every arm on every problem; of the others than ``only``, nothing is known then, and NaN."""
    population = model.population
    assert population is not None
    shape = (len(model.arms), len(population))
    correct, prompt, reasoning, visible, api_cost, gpu_s = (np.full(shape, np.nan) for _ in range(6))
    offered = np.zeros((len(model.arms), len(population.sources)), dtype=np.bool_)
    for index, arm in enumerate(model.arms):
        offered[index] = [source in arm.sources for source in population.sources]
        if only is not None and index not in only:
            continue
        rows = np.flatnonzero(offered[index][population.source])
        for table, values in zip(
            (correct, prompt, reasoning, visible, api_cost, gpu_s), _expectations(model, arm, rows), strict=True
        ):
            table[index, rows] = values
    return Expectations(model, correct, prompt, reasoning, visible, api_cost, gpu_s, offered)


def spread_out(
    model: Model, arm: ResolvedArm, rows: I64, doubted: float = 0.0, votes: Votes = _VOTES
) -> tuple[I64, Outcome]:
    """Equally weighted ways that requests on these problems may go: the position in ``rows`` of each, and its outcome.

    ``doubted`` as for :func:`ttc_sim.strategies.outcomes.behaviour`; ``votes``: how many draws where these have to be drawn.
    """
    attempts, strategy = arm.attempts, arm.strategy
    assert attempts is not None
    if is_attempt(strategy) and isinstance(strategy, Single):
        count = attempts.count[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        picks = (within + 0.5) / count[owner]
        forced_points = 8 if strategy.on_cap == "force_answer" and strategy.cap is not None else 1
        owner, picks = np.repeat(owner, forced_points), np.repeat(picks, forced_points)
        forced = np.tile((np.arange(forced_points) + 0.5) / forced_points, len(owner) // forced_points)
        given = {"pick": picks[:, None], "forced": forced[:, None]}
        context = context_of(model.deployments[arm.deployment])
        return owner, carry_out(
            strategy, Trial(attempts, rows[owner], lambda stream, _: given[stream], context=context)
        )
    owner = np.repeat(np.arange(len(rows)), max(votes.each, -(-votes.least // max(len(rows), 1))))

    def drawn(stream: str, count: int) -> F64:
        # The same for all arms on a model, as in a simulation: one under two names comes to the same, more samples to no less.
        return columns(0, f"options/{stream}", len(owner), count)

    trial = trial_of(model, arm, rows[owner], drawn)
    others = {name: (other, replace(one, doubted=doubted)) for name, (other, one) in trial.others.items()}
    return owner, carry_out(strategy, replace(trial, doubted=doubted, others=others))


def _expectations(model: Model, arm: ResolvedArm, rows: I64) -> tuple[F64, F64, F64, F64, F64, F64]:
    """For each of the rows, chance of a right answer, expected prompt, reasoning and visible tokens, bill of API calls (US
    dollars) and replica seconds."""
    owner, outcome = spread_out(model, arm, rows)
    weight = 1.0 / np.maximum(np.bincount(owner, minlength=len(rows)), 1)

    def mean(values: NDArray[Any]) -> F64:
        return np.bincount(owner, weights=values.astype(np.float64), minlength=len(rows)) * weight

    total = np.zeros((5, len(rows)))
    for stage in outcome.stages:
        at = deployment_of(model, arm, stage)
        served = model.deployments[at]
        hidden, shown = stage.cut_tokens
        if isinstance(served, Api) and served.on_timeout == "finish":
            hidden, shown = stage.reasoning_tokens, stage.visible_tokens
        share = mean(stage.runs)
        tokens = [
            mean(np.where(stage.runs, x, 0)) for x in (stage.prompt_tokens, hidden.sum(axis=1), shown.sum(axis=1))
        ]
        prices, table = model.prices[at], model.step_tables[at]
        found = _found_again(model, at, rows)
        bill = seconds = np.zeros(len(rows))
        if prices is not None:
            bill = np.asarray(prices.cost_usd(tokens[0], share * found, tokens[1], tokens[2]))
            if prices.by_call:  # not linear in tokens: the mean of the bills is not the bill of the means
                spent = stage.prompt_tokens, found[owner], hidden.sum(axis=1), shown.sum(axis=1)
                bill = mean(np.where(stage.runs, prices.cost_usd(*spent, stage.calls), 0.0))
        if isinstance(served, GpuPool) and table is not None:
            samples, often = hidden.shape[1], np.maximum(share, 1e-12)
            prompt, output = tokens[0] / often, (tokens[1] + tokens[2]) / samples / often
            batch = full_batch(served, prompt, output)
            # Further samples take in no prompt of their own.
            taking_in = prefill_seconds(table, prompt, found, batch)
            seconds = (
                share * (taking_in + samples * decode_seconds(table, prompt, output, batch)) / served.data_parallel
            )
        total += [*tokens, bill, seconds]
    return (mean(outcome.correct), *total)


def _found_again(model: Model, at: int, rows: I64) -> F64:
    """(rows,) tokens of a prompt that a deployment's cache would hold, had all of its session's turns come there soon enough."""
    served, population = model.deployments[at], model.population
    caches = served.prefix_caching if isinstance(served, GpuPool) else served.cache is not None
    if population is None or population.turns is None or not caches:
        return np.zeros(len(rows))
    return population.turns.reused_tokens[rows].astype(np.float64)
