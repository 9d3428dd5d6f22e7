"""What arms make of the requests sent to them, as work for an engine, before any queue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.engine.contexts import context_of, ended_at
from ttc_sim.engine.work import Work
from ttc_sim.scenario import Api, GpuPool, Latency
from ttc_sim.simulation.drawing import Draws
from ttc_sim.simulation.model import Model, ResolvedArm, deployment_of, spread, trial_of
from ttc_sim.simulation.turn_lengths import lengthened
from ttc_sim.strategies import carry_out
from ttc_sim.strategies.outcomes import Outcome, Samples, Stage


@dataclass(frozen=True)
class Carried:
    """What the arms would make of the requests sent to them, before any queue.

    Attributes:
        work: for the engine.
        correct: (n,) 1.0 or 0.0; NaN where nothing is known of accuracy.
        cut_off: (n,) 1.0 where a cap, or a server's context, ends the answer before it is whole, else 0.0; NaN where accuracy is
            known, which has it.
        calls: (stages,) API calls that each stage is: a verifier reads every sample in one of its own.
    """

    work: Work
    correct: F64
    cut_off: F64
    calls: I64


def carry(model: Model, draws: Draws, arm: I64, fallen: int = 0) -> Carried:
    """Turn requests and their arms into work.

    Args:
        fallen: how many arms they were at before, as fallbacks have it: what goes wrong with them now is another draw.
    """
    draws = lengthened(model, draws, arm)
    if draws.memory is not None:
        kept: Carried = draws.memory.carried(model, draws, arm, fallen)
        return kept
    return carry_anew(model, draws, arm, fallen)


def carry_anew(model: Model, draws: Draws, arm: I64, fallen: int) -> Carried:
    """The same, whatever is remembered of the draws."""
    n = len(draws)
    correct, cut_off = np.full(n, np.nan), np.full(n, np.nan)
    parts: list[tuple[I64, int, Stage, int]] = []  # requests that run a stage, its number, the stage, its deployment
    stages = np.zeros(n, dtype=np.int64)
    for index, item in enumerate(model.arms):
        members = np.flatnonzero(arm == index)
        if not len(members):
            continue
        outcome = _outcome(model, item, draws, members)
        if item.attempts is not None:
            correct[members] = outcome.correct
        else:
            cut_off[members] = _cut_off(model, item, draws, members)
        for number, stage in enumerate(outcome.stages):
            deployment = deployment_of(model, item, stage)
            parts.append((members, number, stage, deployment))
            stages[members] += stage.runs
    stage_start = np.concatenate([[0], np.cumsum(stages)]).astype(np.int64)
    total = int(stage_start[-1])
    deployment_at, prompt, width, needed, calls = (np.zeros(total, dtype=np.int64) for _ in range(5))
    place = stage_start[:-1].copy()  # next stage of each request
    placed = []
    for members, number, stage, deployment in parts:
        rows = slice(None) if stage.runs.all() else np.flatnonzero(stage.runs)
        at = place[members[rows]]
        place[members[rows]] += 1
        deployment_at[at], prompt[at] = deployment, stage.prompt_tokens[rows]
        width[at], needed[at], calls[at] = stage.visible_tokens.shape[1], stage.needed[rows], stage.calls
        placed.append((members[rows], at, rows, number, stage, deployment))
    sample_start = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
    reasoning = np.empty(sample_start[-1], dtype=np.int64)
    visible = np.empty_like(reasoning)
    first_token_s, per_token_s = np.zeros(len(reasoning)), np.zeros(len(reasoning))
    breaking, again = (max(find(item) for item in model.deployments) for find in (_calls_that_break, _calls_made_again))
    breaks = np.zeros((total, breaking), dtype=np.int8)
    again_s = np.zeros((2, again, len(reasoning)))
    for members, at, rows, number, stage, deployment in placed:
        count = stage.visible_tokens.shape[1]
        where = sample_start[at][:, None] + np.arange(count)
        reasoning[where], visible[where] = stage.reasoning_tokens[rows], stage.visible_tokens[rows]
        served = model.deployments[deployment]
        if isinstance(served, Api):
            at_work = model.deployment_names[deployment] + (f"/{number}" if number else "")
            at_work += f"/fallen-{fallen}" if fallen else ""
            stream = f"latency/{at_work}"
            first_token_s[where] = _times(served.first_token, draws, f"{stream}/first", members, count)
            per_token_s[where] = _times(served.per_token, draws, f"{stream}/rest", members, count)
            for call in range(_calls_made_again(served)):
                of_call = f"{stream}/again-{call + 1}"
                again_s[0, call][where] = _times(served.first_token, draws, f"{of_call}/first", members, count)
                again_s[1, call][where] = _times(served.per_token, draws, f"{of_call}/rest", members, count)
            if (calls_that_break := _calls_that_break(served)) and served.errors is not None:
                drawn = draws.samples(f"errors/{at_work}", calls_that_break, members)
                breaks[at[:, None], np.arange(calls_that_break)] = drawn < (served.errors.rate or 0.0)
    retries = max([item.retry.retries for item in model.deployments if item.retry is not None], default=0)
    prefix, shared = draws.traffic.prefix_id, draws.traffic.prefix_tokens
    prefixes = draws.traffic.prefixes
    if prefix is None or draws.row is not None:  # a population's problems are not the prompts of a trace
        prefix, shared, prefixes = np.full(n, -1, dtype=np.int64), None, None
    work = Work(
        arrival_s=draws.traffic.arrival_s,
        stage_start=stage_start,
        deployment=deployment_at,
        prompt_tokens=prompt,
        prefix_id=prefix if total == n else np.repeat(prefix, stages),
        sample_start=sample_start,
        reasoning_tokens=reasoning,
        visible_tokens=visible,
        first_token_s=first_token_s,
        per_token_s=per_token_s,
        backoff=draws.uniform("backoff", max(retries, 1)) if retries else np.zeros((n, 1)),
        prefix_tokens=shared if shared is None or total == n else np.repeat(shared, stages),
        needed=None if (needed == width).all() else needed,
        priority=_priority(model, draws),
        after=draws.traffic.after,
        think_s=draws.traffic.think_s,
        breaks=breaks if breaking else None,
        again_s=again_s if again else None,
        prefixes=prefixes,
        session=draws.traffic.session,
        calls=calls if (calls > 1).any() else None,
    )
    return Carried(work=work, correct=correct, cut_off=cut_off, calls=calls)


def _calls_that_break(item: Api | GpuPool) -> int:
    """Calls of one stage, accepted one after another, that may each end in an error."""
    if not isinstance(item, Api) or item.errors is None or not item.errors.rate:
        return 0
    return 1 + (item.retry.retries if {"error", "timeout"} & set(item.retry.reasons) else 0)


def _calls_made_again(item: Api | GpuPool) -> int:
    """Calls of one stage, after the first, that are accepted because those before broke or were given up."""
    if not isinstance(item, Api):
        return 0
    breaks = item.errors is not None and item.errors.breaks and "error" in item.retry.reasons
    return item.retry.retries if breaks or "timeout" in item.retry.reasons else 0


def _priority(model: Model, draws: Draws) -> I64 | None:
    """By source; ``None`` where all are equal."""
    sources = model.scenario.workload.sources
    if draws.source is None or not any(source.priority for source in sources.values()):
        return None
    priority: I64 = np.array([source.priority for source in sources.values()], dtype=np.int64)[draws.source]
    return priority


def _outcome(model: Model, arm: ResolvedArm, draws: Draws, members: I64) -> Outcome:
    traffic = draws.traffic
    if arm.attempts is None or draws.row is None:
        if traffic.prompt_tokens is None or traffic.visible_tokens is None:
            raise InputError("workload", "arrivals", "no lengths", "a trace or clients that carry token lengths")
        reasoning = (
            np.zeros_like(traffic.visible_tokens) if traffic.reasoning_tokens is None else traffic.reasoning_tokens
        )
        reasoning, visible = reasoning[members], traffic.visible_tokens[members]
        most = most_of_answers(model, arm, traffic.prompt_tokens[members])
        if most is not None:
            reasoning, visible = ended_at(reasoning, visible, most)
        none = np.zeros((len(members), 1), dtype=np.bool_)
        zero = np.zeros((len(members), 1), dtype=np.int64)
        prompt = traffic.prompt_tokens[members]
        return Outcome.of(Samples(prompt, reasoning[:, None], visible[:, None], none, none, zero), none[:, 0])
    problem = draws.row[members]
    # One stream per profile, not per arm: the same request makes the same attempts whatever cap or arm it is given.
    return carry_out(arm.strategy, trial_of(model, arm, problem, lambda s, k: draws.samples(s, k, members)))


def _cut_off(model: Model, arm: ResolvedArm, draws: Draws, members: I64) -> F64:
    """Whether the arm's cap or its server's context ends each of the requests, whose lengths come with the traffic, before its
    last token."""
    traffic = draws.traffic
    if traffic.visible_tokens is None or traffic.prompt_tokens is None:
        return np.zeros(len(members))
    most = most_of_answers(model, arm, traffic.prompt_tokens[members])
    if most is None:
        return np.zeros(len(members))
    whole = traffic.visible_tokens + (0 if traffic.reasoning_tokens is None else traffic.reasoning_tokens)
    return (whole[members] > most).astype(np.float64)


def most_of_answers(model: Model, arm: ResolvedArm, prompt: I64) -> I64 | None:
    """Output tokens at which an arm ends answers to some prompts: its cap, or what its server's context leaves, at least 1;
    ``None`` where nothing does."""
    cap, context = arm.strategy.attempt_cap, context_of(model.deployments[arm.deployment])
    if context is None:
        return None if cap is None else np.full(len(prompt), cap, dtype=np.int64)
    room = np.maximum(context - prompt, 1)
    return room if cap is None else np.minimum(room, cap)


def _times(latency: Latency, draws: Draws, stream: str, members: I64, samples: int) -> F64:
    sigma = spread(latency)
    return latency.median_s * np.exp(sigma * ndtri(draws.samples(stream, samples, members)))
