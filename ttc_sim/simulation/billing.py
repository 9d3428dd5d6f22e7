"""What a run came to, request by request: status, tokens, US dollars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.spending import DEGRADE, QUEUE, REFUSE, Spending
from ttc_sim.engine.work import COMPLETED, STATUS_NAMES, EngineResult, prefill_busy_s
from ttc_sim.policies import Requests
from ttc_sim.scenario import Api, GpuPool, has_fixed_cost
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers
from ttc_sim.simulation.outside import Reached
from ttc_sim.simulation.paid_time import paid_from, paid_seconds, seconds_of_fees
from ttc_sim.simulation.prompts import Prompts, prompts_taken_in
from ttc_sim.simulation.provisioning import Provisioned, ReplicasOverTime
from ttc_sim.simulation.session_outcomes import outcomes
from ttc_sim.simulation.standing import Standing, stand
from ttc_sim.simulation.taken import Taken, what_was_taken
from ttc_sim.simulation.timeline import Timeline, timeline
from ttc_sim.simulation.token_times import token_times


@dataclass(frozen=True)
class Run:
    """One run: who went where, what was planned and what came of it. Arrays are (n,), a request each.

    Attributes:
        answered_correctly: 1.0 if the answer was right and came in time; NaN where accuracy is unknown. Of sessions it stands at
            the last request of each (:mod:`ttc_sim.simulation.session_outcomes`), and is NaN at the others.
        planned_correct: the same, had no request timed out, failed or been rejected by the arm that it was sent to.
        answered_by: index of the arm that answered it, or was the last to try; ``arm`` is the one that it was sent to or, but for a
            budget, would have been.
        lost_tokens: prompt and output tokens of attempts that broke or were made again, and of arms that a fallback came after;
            they are among the others. lost_usd: their part of the bill.
        cut_off: 1.0 if it was answered, and a cap ended the answer before it was whole; NaN where accuracy is known.
        reasoning_tokens: generated hidden tokens, summed over samples; visible_tokens: likewise.
        prompt_tokens: prompt tokens taken in.
        planned_tokens: (3, n) prompt, reasoning and visible tokens, had every request run to its end.
        thinking_cost_usd: part of the bill that is for reasoning tokens; idle_cost_usd: part of that for thinking on after the
            answer stood, in expectation (:class:`ttc_sim.strategies.outcomes.forcing.ForcedAnswers`); visible_cost_usd: part of the
            bill that is for visible tokens. What is left is for the prompt, and for whatever else a call costs.
        cost_usd: bill of API calls, the request's part of the GPU pools' bill by the time that it took of them, and of endpoints'
            fixed fees by its tokens there (:mod:`ttc_sim.simulation.taken`): requests' bills add up to what was paid.
        api_cost_usd: bill of API calls alone; planned_api_cost_usd: the same, had every request run to its end with nothing cached,
            at the mean of prices that change.
        cached_tokens: prompt tokens of API calls that were found in a cache; written_tokens: those that one was made to keep;
            cache_saved_usd: by how much less they cost than as if they were neither, below 0 where they cost more.
        ttft_s: seconds to the first token; tpot_s: for each after it, in the mean; NaN where there is none. Of a request that timed
            out the token that it waited for counts as come when it gave up (:mod:`ttc_sim.simulation.token_times`).
        paid_s: time for which the GPU pools in use, and fixed fees, are paid (:func:`ttc_sim.simulation.paid_time.paid_seconds`);
            replicas: of each pool, the most at any one time; provisioned: how many over that time, and how busy they were.
        fees_usd_per_hour: by endpoint in use that has one, its fixed fee.
        paid_from_s: when that begins.
        timeline: the run in intervals of the clock, if that was asked for.
        paid_by_work: whether that time follows from the requests' work, and not from their arrivals alone.
        work_s: (n,) what each takes of what requests share: seconds of pools' replicas or, without pools, of endpoints with
            limits, or else US dollars of a budget; ``None`` where nothing is shared.
        rate_per_s: requests per second that were served: of the arrivals (:class:`ttc_sim.workload.Traffic`), or fewer where a pool
            fell behind.
        standings: verdicts on the deployments (:mod:`ttc_sim.simulation.standing`).
        prompts: what was found of them in caches; ``None`` where no two have anything in common.
        reached: by pool in use, how far the run went on it.
    """

    draws: Draws
    requests: Requests
    arm: I64
    answered_by: I64
    result: EngineResult
    answered_correctly: F64
    planned_correct: F64
    cut_off: F64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    planned_tokens: I64
    lost_tokens: I64
    lost_usd: F64
    cost_usd: F64
    thinking_cost_usd: F64
    idle_cost_usd: F64
    visible_cost_usd: F64
    api_cost_usd: F64
    planned_api_cost_usd: F64
    cached_tokens: I64
    written_tokens: I64
    cache_saved_usd: F64
    ttft_s: F64
    tpot_s: F64
    paid_s: float
    paid_from_s: float
    paid_by_work: bool
    work_s: F64 | None
    rate_per_s: float
    replicas: Mapping[str, int]
    provisioned: Mapping[str, Provisioned]
    fees_usd_per_hour: Mapping[str, float]
    standings: Mapping[str, Standing]
    timeline: Timeline | None = None
    prompts: Prompts | None = None
    reached: Mapping[str, Reached] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Of the run."""
        return self.draws.run

    @property
    def row(self) -> I64 | None:
        """(n,) problem of each request in the population; ``None`` without one."""
        return self.draws.row

    @cached_property
    def latency_s(self) -> F64:
        """From arrival to the last token or to giving up."""
        return self.result.finished_s - self.result.arrival_s

    def table(self, model: Model) -> pl.DataFrame:
        """One row per request."""
        population, rows, result = model.population, self.row, self.result
        columns: dict[str, object] = {
            "run": np.full(len(self.arm), self.number),
            "request": np.arange(len(self.arm)),
            "source": np.array(self.requests.sources)[self.requests.source],
            "arm": np.array(model.arm_names)[self.arm],
            "status": np.array(STATUS_NAMES)[result.status],
            "correct": self.answered_correctly,
            "arrival_s": result.arrival_s,
            "started_s": result.started_s,
            "first_token_s": result.first_token_s,
            "finished_s": result.finished_s,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "latency_s": self.latency_s,
            "retries": result.retries,
            "prompt_tokens": self.prompt_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "visible_tokens": self.visible_tokens,
            "cost_usd": self.cost_usd,
            "thinking_cost_usd": self.thinking_cost_usd,
            "idle_cost_usd": self.idle_cost_usd,
            "visible_cost_usd": self.visible_cost_usd,
        }
        if any(isinstance(item, Api) and item.cache is not None for item in model.deployments):
            columns |= {name: getattr(self, name) for name in ("cached_tokens", "written_tokens", "cache_saved_usd")}
        attempts = result.attempts
        if attempts is not None:
            columns |= {
                "answered_by": self._answered_by(model),
                "errors": attempts.errors,
                "outage_errors": attempts.outage_errors,
                "error_retries": attempts.error_retries,
                "timeout_retries": attempts.timeout_retries,
                "fallbacks": attempts.fallbacks,
                "lost_tokens": self.lost_tokens,
                "lost_cost_usd": self.lost_usd,
            }
        if result.spending is not None:
            columns |= {"answered_by": self._answered_by(model), **budget_columns(result.spending)}
        if population is not None and rows is not None:
            columns["problem"] = population.problem[rows]
            columns |= {name: values for name, values in self.requests.scores.items() if name == "difficulty"}
        else:
            columns["cut_off"] = self.cut_off == 1.0
        return pl.DataFrame(columns).fill_nan(None)

    def _answered_by(self, model: Model) -> NDArray[Any]:
        names = np.array(model.arm_names)[self.answered_by]
        return np.where(self.result.status == COMPLETED, names, np.array(None))


def budget_columns(spending: Spending) -> dict[str, NDArray[Any]]:
    """What a budget did to each request: whether it was degraded, waited for a day to end, or was refused; when it was sent on."""
    bits = {"degraded": DEGRADE, "queued": QUEUE, "refused": REFUSE}
    return {**{name: spending.done & bit > 0 for name, bit in bits.items()}, "sent_s": spending.sent_s}


def bill_run(
    model: Model,
    draws: Draws,
    requests: Requests,
    arm: I64,
    offers: Offers,
    result: EngineResult,
    ready: Collection[int] = (),
    interval_s: float | None = None,
) -> Run:
    """The bill of a run.

    Args:
        requests: as the policy saw them; arm: (n,) index of the arm that it sent each to.
        offers: what the engine was offered; result: what it made of it.
        interval_s: over which the engine recorded levels, if it did.
        ready: deployments that requests might have been sent to by live load, or as a fallback: pools and fees among them are paid
            for even if none was.
    """
    n = len(draws)
    workload = model.scenario.workload
    taken = what_was_taken(model, offers, result)
    found = stand(model, draws, taken, result)
    fixed = {
        d: item
        for d, item in enumerate(model.deployments)
        if has_fixed_cost(item) and (d in ready or taken.sent[d].any())
    }
    pools = [d for d, item in fixed.items() if isinstance(item, GpuPool)]
    behind = any(found[model.deployment_names[d]].behind for d in pools if model.deployment_names[d] in found)
    on_pool = np.asarray(taken.sent[pools].any(axis=0))
    paid_s = paid_seconds(workload, draws.traffic, result, on_pool, behind)
    if fixed and not pools:
        paid_s = seconds_of_fees(workload, draws.traffic, paid_s)
    paid_from_s = paid_from(workload, draws.traffic, result, behind)
    cost, output, lost = taken.api_cost_usd.copy(), taken.api_output_usd.copy(), taken.lost_usd.copy()
    provided: dict[str, Provisioned] = {}
    for d, item in fixed.items():
        usd = item.hourly_usd / 3600.0 * paid_s
        took, made, wasted = taken.fee_tokens[d], taken.fee_output_tokens[:, d], taken.fee_lost_tokens[d]
        if isinstance(item, GpuPool):
            provided[name := model.deployment_names[d]] = _provisioned(item, d, result, paid_from_s, paid_s)
            usd = provided[name].replicas * item.hourly_usd / 3600.0 * paid_s
            took, made, wasted = taken.pool_s[d], taken.pool_output_s[:, d], taken.lost_pool_s[d]
        # Where nothing was taken, those that were sent there share the bill; where none was, all for whom it stood by.
        shared_by = took if took.sum() else taken.sent[d] if taken.sent[d].any() else np.ones(n)
        each = usd / shared_by.sum()
        cost += each * shared_by
        output += each * made
        lost += each * wasted
    fees = {model.deployment_names[d]: one.hourly_usd for d, one in fixed.items() if isinstance(one, Api)}
    by_time = (bool(pools) or workload.has_users) and paid_s > 0
    correct, planned_correct = taken.correct, taken.planned_correct
    answered_by = offers.arm_of(result.arm.astype(np.int64))
    if model.instances is not None and model.population is None:
        cut = taken.cut_off == 1.0
        correct = outcomes(model, draws, answered_by, cut | (result.status != COMPLETED))
        planned_correct = outcomes(model, draws, arm, cut)
    replicas = {name: one.most_replicas for name, one in provided.items()}
    answered_by = offers.arm_of(result.arm.astype(np.int64))
    ttft_s, tpot_s = token_times(result, taken.in_a_row, taken.outlasts)
    return Run(
        draws=draws,
        requests=requests,
        arm=arm,
        answered_by=answered_by,
        result=result,
        answered_correctly=np.where(result.status == COMPLETED, correct, np.where(np.isnan(correct), np.nan, 0.0)),
        planned_correct=planned_correct,
        cut_off=np.where(np.isnan(taken.cut_off) | (result.status == COMPLETED), taken.cut_off, 0.0),
        prompt_tokens=taken.tokens[0],
        reasoning_tokens=taken.tokens[1],
        visible_tokens=taken.tokens[2],
        planned_tokens=taken.planned_tokens,
        lost_tokens=taken.lost_tokens,
        lost_usd=lost,
        cost_usd=cost,
        thinking_cost_usd=output[0],
        idle_cost_usd=output[1],
        visible_cost_usd=output[2],
        api_cost_usd=taken.api_cost_usd,
        planned_api_cost_usd=taken.planned_api_cost_usd,
        cached_tokens=taken.cached_tokens,
        written_tokens=taken.written_tokens,
        cache_saved_usd=taken.cache_saved_usd,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        paid_s=paid_s,
        paid_from_s=paid_from_s,
        paid_by_work=behind or workload.has_users,
        work_s=_work_s(model, taken),
        rate_per_s=n / paid_s if by_time else draws.traffic.rate_per_s,
        replicas=replicas,
        provisioned=provided,
        fees_usd_per_hour=fees,
        standings=found,
        prompts=prompts_taken_in(model, offers, draws.traffic, result, answered_by),
        reached={model.deployment_names[d]: one for d, one in taken.reached.items()},
        timeline=None
        if interval_s is None
        else timeline(model, taken, result, interval_s, replicas, fees, (paid_from_s, paid_s)),
    )


def _provisioned(pool: GpuPool, d: int, result: EngineResult, from_s: float, paid_s: float) -> Provisioned:
    mean, most = ReplicasOverTime(pool, d, result).within(from_s, from_s + paid_s)
    taking_in_s = prefill_busy_s(result, d)
    apart_s = (pool.servers - pool.replicas) * paid_s
    return Provisioned(
        mean,
        most,
        pool.gpus_in(mean * paid_s, apart_s) / 3600.0,
        pool.gpus_in(float(result.busy_s[d]) - taking_in_s, taking_in_s) / 3600.0,
    )


def _work_s(model: Model, taken: Taken) -> F64 | None:
    if taken.pool_s.any():
        return np.asarray(taken.pool_s.sum(axis=0))
    limited = [isinstance(item, Api) and item.limited for item in model.deployments]
    if taken.sent[limited].any():
        return taken.at_first.alone_s
    # A budget is shared too.
    return taken.planned_api_cost_usd if model.scenario.budget is not None else None
