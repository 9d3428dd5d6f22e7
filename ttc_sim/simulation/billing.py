"""What a run came to, request by request: status, tokens, US dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.engine.work import COMPLETED, STATUS_NAMES, EngineResult, tokens_when_answered
from ttc_sim.policies import Requests
from ttc_sim.scenario import GpuPool
from ttc_sim.simulation.carrying import Carried
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model
from ttc_sim.strategies.outcomes.trial import DEFAULT_FORCED


@dataclass(frozen=True)
class Run:
    """One run: who went where, what was planned and what came of it. Arrays are (n,), a request each.

    Attributes:
        answered_correctly: 1.0 if the answer was right and came in time; NaN where accuracy is unknown.
        planned_correct: the same, had no request timed out or been rejected.
        reasoning_tokens: generated hidden tokens, summed over samples; visible_tokens: likewise.
        prompt_tokens: prompt tokens taken in.
        thinking_cost_usd: part of the bill that is for reasoning tokens; idle_cost_usd: part of that for thinking on after the
            answer stood, in expectation (:class:`ttc_sim.strategies.outcomes.forcing.ForcedAnswers`).
        cost_usd: bill of API calls, and the request's part of the GPU pools' bill by its share of their tokens.
        api_cost_usd: bill of API calls alone; planned_api_cost_usd: the same, had every request run to its end.
        pool_cost_usd_per_request: bill of the GPU pools in use, per request of the workload.
        rate_per_s: mean rate of arrivals in the long run; replicas: of each GPU pool in use.
    """

    number: int
    row: I64 | None
    requests: Requests
    arm: I64
    result: EngineResult
    answered_correctly: F64
    planned_correct: F64
    prompt_tokens: I64
    reasoning_tokens: I64
    visible_tokens: I64
    cost_usd: F64
    thinking_cost_usd: F64
    idle_cost_usd: F64
    api_cost_usd: F64
    planned_api_cost_usd: F64
    pool_cost_usd_per_request: float
    rate_per_s: float
    replicas: Mapping[str, int]

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
            "ttft_s": result.first_token_s - result.arrival_s,
            "latency_s": self.latency_s,
            "retries": result.retries,
            "prompt_tokens": self.prompt_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "visible_tokens": self.visible_tokens,
            "cost_usd": self.cost_usd,
            "thinking_cost_usd": self.thinking_cost_usd,
            "idle_cost_usd": self.idle_cost_usd,
        }
        if population is not None and rows is not None:
            columns["problem"] = population.problem[rows]
            columns |= {name: values for name, values in self.requests.scores.items() if name == "difficulty"}
        return pl.DataFrame(columns).fill_nan(None)


def bill_run(
    model: Model,
    draws: Draws,
    requests: Requests,
    arm: I64,
    offers: Sequence[Carried],
    picked: I64,
    result: EngineResult,
) -> Run:
    """The bill of a run.

    Args:
        requests: as the policy saw them; arm: (n,) index of the arm of each.
        offers: work that the engine was offered: of the arms chosen or, where it chose by live load, one of each arm.
        picked: (n,) index of the offer that each request took; result: what the engine made of it.
    """
    n = len(draws)
    # A closed loop sends as fast as it is answered.
    rate_per_s = n / max(result.end_s, 1e-9) if draws.traffic.after is not None else draws.traffic.rate_per_s
    prompt, reasoning, visible = (np.zeros(n, dtype=np.int64) for _ in range(3))
    api_cost, planned_cost, pool_cost = np.zeros(n), np.zeros(n), np.zeros(n)
    correct = np.full(n, np.nan)
    pool_tokens = np.zeros((len(model.deployments), n))
    thinking = np.zeros((2, n))  # US dollars of API calls: all thinking, and what came after the answer stood
    pool_thinking = np.zeros((2, len(model.deployments), n))  # tokens, likewise
    for index, offer in enumerate(offers):
        here = picked == index
        work = offer.work
        # Only stages that began have taken anything in.
        generated, taken_in = result.generated_tokens[index], result.prefilled_tokens[index]
        hidden = np.minimum(generated, work.reasoning_tokens)
        by_stage = [_sums(values, work.sample_start) for values in (hidden, generated - hidden)]
        answered = tokens_when_answered(work, model.deployments)
        planned_hidden = np.minimum(answered, work.reasoning_tokens)
        planned = [_sums(values, work.sample_start) for values in (planned_hidden, answered - planned_hidden)]
        after = np.rint(hidden * (1 - DEFAULT_FORCED.needed(hidden.astype(np.float64)))) if hidden.any() else hidden
        spent = by_stage[0], _sums(after, work.sample_start)
        correct[here] = offer.correct[here]
        for total, values in ((prompt, taken_in), (reasoning, by_stage[0]), (visible, by_stage[1])):
            total[here] = _sums(values, work.stage_start)[here]
        owner = np.repeat(np.arange(n), np.diff(work.stage_start))
        for d, prices in enumerate(model.prices):
            stages = np.flatnonzero((work.deployment == d) & here[owner])
            if not len(stages):
                continue
            who = owner[stages]
            if prices is None:
                tokens = (taken_in + by_stage[0] + by_stage[1])[stages]
                pool_tokens[d] += np.bincount(who, weights=tokens, minlength=n)
                for k in (0, 1):
                    pool_thinking[k, d] += np.bincount(who, weights=spent[k][stages], minlength=n)
                continue
            calls = offer.calls[stages]
            for k in (0, 1):
                thinking[k] += np.bincount(
                    who, weights=prices.reasoning_usd(taken_in[stages], spent[k][stages], calls), minlength=n
                )
            for bill, one in (
                (api_cost, prices.cost_usd(taken_in[stages], 0, by_stage[0][stages], by_stage[1][stages], calls)),
                (
                    planned_cost,
                    prices.cost_usd(work.prompt_tokens[stages], 0, planned[0][stages], planned[1][stages], calls),
                ),
            ):
                bill += np.bincount(who, weights=one, minlength=n)
    pool_per_request = 0.0
    replicas: dict[str, int] = {}
    for index, item in enumerate(model.deployments):
        if not isinstance(item, GpuPool) or not pool_tokens[index].any():
            continue
        per_request = item.replicas * item.hourly_usd / 3600.0 / rate_per_s
        pool_per_request += per_request
        replicas[model.deployment_names[index]] = item.replicas
        per_token = per_request * n / pool_tokens[index].sum()
        pool_cost += per_token * pool_tokens[index]
        thinking += per_token * pool_thinking[:, index]
    return Run(
        number=draws.run,
        row=draws.row,
        requests=requests,
        arm=arm,
        result=result,
        answered_correctly=np.where(result.status == COMPLETED, correct, np.where(np.isnan(correct), np.nan, 0.0)),
        planned_correct=correct,
        prompt_tokens=prompt,
        reasoning_tokens=reasoning,
        visible_tokens=visible,
        cost_usd=api_cost + pool_cost,
        thinking_cost_usd=thinking[0],
        idle_cost_usd=thinking[1],
        api_cost_usd=api_cost,
        planned_api_cost_usd=planned_cost,
        pool_cost_usd_per_request=pool_per_request,
        rate_per_s=rate_per_s,
        replicas=replicas,
    )


def _sums(values: NDArray[Any], start: I64) -> I64:
    """Sum over each of the stretches ``start[i]:start[i + 1]``."""
    if len(values) == len(start) - 1:
        return values.astype(np.int64)
    upto = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(upto[start[1:]] - upto[start[:-1]])
