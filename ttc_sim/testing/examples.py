"""Made-up attempts, requests and a system to run them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import yaml
from pydantic import ValidationError

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.engine.work import Work, single_stage
from ttc_sim.policies import DIFFICULTY, NOVELTY, Requests
from ttc_sim.policies.costs import ArmCosts, TokenUsd
from ttc_sim.policies.responses import Response
from ttc_sim.policies.turns import Turns
from ttc_sim.scenario import GpuPool, LinearStepTime, scenario_from_dict
from ttc_sim.scenario.base import Model
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.model import Model as Looked
from ttc_sim.simulation.model import ResolvedArm
from ttc_sim.strategies import Single, Strategy
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload.population import Population

STEP = LinearStepTime(base_s=0.0113, per_prefill_token_s=1.7e-5, per_sequence_s=3.1e-5, per_kv_token_s=1.9e-8)


def attempts_of(name: str, counts: Sequence[int], *, recorded: bool = True, scored: bool = False) -> Attempts:
    """So many attempts at each problem; the first problem is never solved, the second always.

    Args:
        recorded: whether answers are, and thinking apart from what is visible.
        scored: whether a verifier's scores are.
    """
    problem = np.repeat(np.arange(len(counts)), counts)
    u = uniforms(0, f"attempts of {name}", len(problem), 6)
    chance = uniforms(0, f"chances of {name}", len(counts))[:, 0]
    chance[:2] = [0.0, 1.0][: len(counts)]
    correct = u[:, 0] < chance[problem]
    reasoning, visible = (15 * 30 ** u[:, 1]).astype(np.int64), 1 + (u[:, 2] * 60).astype(np.int64)
    answer = np.where(correct, 0, 1 + (u[:, 3] * 3).astype(np.int64))
    silent = ~correct & (u[:, 4] < 0.2)
    return Attempts(
        name=name,
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        prompt_tokens=30 + 10 * problem.astype(np.int64),
        reasoning_tokens=reasoning if recorded else np.zeros_like(reasoning),
        visible_tokens=visible if recorded else reasoning + visible,
        correct=correct,
        answer=np.where(silent, -1, answer).astype(np.int64) if recorded else None,
        reasoning_known=recorded,
        verifier_score=correct + 2 * u[:, 5] if scored else None,
        truncated=silent if recorded else None,
    )


def requests_of(n: int, sources: Sequence[str], arms: Sequence[str], models: Sequence[str]) -> Requests:
    """``n`` requests with every score that the shipped predictors give, of these models, and a response for each of the arms."""
    u = uniforms(0, "requests", n, 4 + 4 * len(models))
    scores = {DIFFICULTY: u[:, 2], NOVELTY: u[:, 3]}
    for k, model in enumerate(models):
        chance, tokens, middle, high = u[:, 4 + 4 * k : 8 + 4 * k].T
        scores |= {f"p:{model}": chance, f"tokens:{model}": 1 + 999 * tokens}
        scores |= {f"tokens_p50:{model}": 1 + 499 * middle, f"tokens_p90:{model}": 500 + 999 * high}
    slopes = uniforms(0, "responses", len(arms), 4)
    responses = {
        arm: Response(
            sources=tuple(sources),
            features=("1", f"logit {DIFFICULTY}", "log prompt_tokens"),
            ranges=((1.0, 1.0), (-5.0, 5.0), (0.0, 8.0)),
            correct=(float(a), -float(b), 0.0),
            api_cost_usd=(float(3 * c) - 7.0, 0.1, 0.2),
            seconds=(float(d), 0.1, 0.1),
        )
        for arm, (a, b, c, d) in zip(arms, slopes, strict=True)
    }
    return Requests(
        arrival_s=np.cumsum(-np.log(u[:, 0])),
        source=(np.arange(n) % len(sources)).astype(np.int64),
        sources=tuple(sources),
        prompt_tokens=1 + (u[:, 1] * 900).astype(np.int64),
        scores=scores,
        responses=responses,
    )


def in_sessions(requests: Requests, arms: Sequence[str]) -> Requests:
    """The same requests as turns of sessions, one of five of none, with sub-agents and contexts that are cut, at a price."""
    n = len(requests)
    u = uniforms(0, "sessions", n, 4)
    session = np.where(u[:, 0] < 0.8, (u[:, 1] * (n / 10 + 1)).astype(np.int64), -1)
    columns = {name: np.zeros(n, dtype=np.int64) for name in ("turn", "prompt", "reused", "output")}
    turn, prompt, reused, output = columns.values()
    after = np.full(n, -1, dtype=np.int64)
    held: dict[
        int, list[list[int]]
    ] = {}  # by session, of each conversation its last turn and what its next prompt begins with
    for i, s in enumerate(session.tolist()):
        begun = held.setdefault(s, [])
        output[i], prompt[i] = 1 + int(400 * u[i, 3]), 1500 + int(900 * u[i, 2])
        if s < 0:
            continue
        if not begun or u[i, 2] < 0.1:
            begun.append([-1, 1200 if begun else 0])
        mine = begun[int(u[i, 3] * len(begun))]
        if mine[0] < 0 or u[i, 3] > 0.1:  # and else the context is cut
            reused[i], prompt[i] = mine[1], mine[1] + prompt[i]
        mine[0], mine[1] = mine[0] + 1, int(prompt[i] + output[i])
        turn[i] = mine[0]
        earlier = np.flatnonzero(session[:i] == s)
        after[i] = earlier[-1] if len(earlier) else -1
    costs = {
        arm: ArmCosts(
            deployment=f"{k // 2}",  # two arms share a cache
            usd=(TokenUsd(0, *_usd(k)), TokenUsd(20_000, *_usd(k + 1))),
            usd_per_call=1e-4 * k,
            keeps=("prompt", "all", "nothing")[k // 2 % 3],
            min_tokens=1024,
            step_tokens=1 + 127 * (k // 2 % 2),
            ttl_s=(300.0, 3600.0)[k // 2 % 2],
        )
        for k, arm in enumerate(arms)
    }
    turns = Turns(session, turn, after, np.where(after < 0, 0.0, 900 * u[:, 2] ** 3), reused, output)
    return replace(requests, prompt_tokens=prompt, turns=turns, costs=costs)


def _usd(k: int) -> tuple[float, float, float, float]:
    price = (5e-6, 1e-6, 2e-6)[k % 3]
    return price, price / 10, 1.25 * price, 5 * price


def pool_of(**changes: object) -> GpuPool:
    """A pool of one small server."""
    plain = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": STEP}
    return GpuPool.model_validate({**plain, "max_num_seqs": 8, "max_num_batched_tokens": 256, **changes})


def work_of(arrival_s: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]], stream: str) -> Work:
    """Requests of random lengths that arrive then, for a pool."""
    u = uniforms(0, stream, len(arrival_s), 2)
    prompt, output = 1 + (u[:, 0] ** 2 * 900).astype(np.int64), 1 + (u[:, 1] ** 2 * 200).astype(np.int64)
    return single_stage(np.asarray(arrival_s, dtype=np.float64), prompt, output)


def written_and_read(settings: Model) -> None:
    """Settings as a plan writes them, read back.

    Raises:
        AssertionError: they cannot be read, or are others.
    """
    written = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True))
    try:
        read = type(settings).model_validate(yaml.safe_load(written))
    except ValidationError as error:
        raise AssertionError(f"what is written cannot be read: {error}") from None
    assert read == settings, f"{written} reads back as {read!r}"


def model_of(strategy: Strategy, attempts: Attempts, others: Mapping[str, Attempts]) -> tuple[Looked, Draws, Work]:
    """A system that carries a strategy out: its own arm and those that it names on a pool, verifiers on endpoints."""
    endpoint = {
        "kind": "api",
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
        "first_token": {"median_s": 0.5, "p95_s": 1.3},
        "per_token": {"median_s": 0.01, "p95_s": 0.03},
    }
    made = {"own": attempts, **others}
    scenario = scenario_from_dict(
        {
            "name": "conformance",
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 2.0},
                "requests": 20,
                "sources": {"all": {"problem_set": "made up"}},
            },
            "deployments": {
                "the arms' own pool": pool_of().model_dump(),
                **dict.fromkeys(strategy.verifiers, endpoint),
            },
            "arms": {name: {"profile": one.name, "deployment": "the arms' own pool"} for name, one in made.items()},
        },
        "conformance",
    )
    problems = np.arange(len(attempts.count))
    nobody: I64 = np.zeros(len(problems), dtype=np.int64)
    population = Population(
        sources=("all",),
        share=np.ones(1),
        problem=problems.astype(np.str_),
        group=problems.astype(np.str_),
        source=nobody,
        cluster=problems,
        prompt_tokens=nobody + 30,
        scores={},
        attempts={one.name: one for one in made.values()},
        offered=dict.fromkeys(made, ("all",)),
        notes=(),
    )
    names = tuple(scenario.deployments)
    price = TokenPrices(1e-6, 1e-6, 2e-6, 2e-6, "made up")
    model = Looked(
        scenario=scenario,
        population=population,
        arms=tuple(
            ResolvedArm(name, 0, strategy if name == "own" else Single(), one, ("all",)) for name, one in made.items()
        ),
        deployment_names=names,
        prices=(None, *(price for _ in names[1:])),
        step_tables=(pool_table(pool_of()), *(None for _ in names[1:])),
    )
    draws = draw(model, 0, purpose="conformance")
    return model, draws, carry(model, draws, np.zeros(len(draws), dtype=np.int64)).work


__all__ = ["attempts_of", "in_sessions", "model_of", "pool_of", "requests_of", "work_of", "written_and_read"]
