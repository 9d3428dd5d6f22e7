"""What must agree with itself, on random scenarios: docs/invariants.md lists the relations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ttc_sim as ttc
from tests.random_scenarios import TIMES, Case, Times, scenario
from ttc_sim.base.draws import uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.engine import compiled
from ttc_sim.engine.work import EngineResult, Work
from ttc_sim.measured.building import build_profile
from ttc_sim.policies import Always
from ttc_sim.scenario import Api, GpuPool, Scenario, scenario_from_dict
from ttc_sim.serving.step_time import StepTable

TIMES_OF_A_REQUEST = ("arrival_s", "started_s", "first_token_s", "finished_s")
SECONDS_OF_A_TABLE = (
    *("base_s", "per_kv_s", "per_pair_s", "dense_s", "prefill_s", "decode_s", "sampled_s"),
    *("attention_s", "decode_attention_s"),
)
SHORT = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def run(case: Case) -> EngineResult:
    return compiled.run(case.works, case.names, case.deployments, case.rule, case.until_s, case.tables)


def on_another_clock(case: Case, factor: float) -> Case:
    """The same case where everything takes ``factor`` times as long."""

    def work(one: Work) -> Work:
        return replace(
            one,
            arrival_s=one.arrival_s * factor,
            first_token_s=one.first_token_s * factor,
            per_token_s=one.per_token_s * factor,
            think_s=None if one.think_s is None else one.think_s * factor,
        )

    def served(one: Api | GpuPool) -> Api | GpuPool:
        timeout = None if one.timeout_s is None else one.timeout_s * factor
        if isinstance(one, GpuPool):
            assert one.step_time is not None
            slower = {name: value * factor for name, value in one.step_time.model_dump().items()}
            step = type(one.step_time)(**slower)
            return one.model_copy(update={"step_time": step, "timeout_s": timeout})
        # A bucket of a limit per minute holds a minute's worth, which is no time.
        limits = {"requests_per_minute": None, "tokens_per_minute": None}
        waits = {"base_s": one.retry.base_s * factor, "max_s": one.retry.max_s * factor}
        return one.model_copy(update={**limits, "timeout_s": timeout, "retry": one.retry.model_copy(update=waits)})

    def table(one: StepTable | None) -> StepTable | None:
        return None if one is None else one._replace(**{x: getattr(one, x) * factor for x in SECONDS_OF_A_TABLE})

    return replace(
        case,
        works=[work(one) for one in case.works],
        deployments=[served(one) for one in case.deployments],
        until_s=None if case.until_s is None else case.until_s * factor,
        tables=[table(one) for one in case.tables],
    )


@pytest.mark.parametrize("times", TIMES)
def test_a_clock_of_another_speed_scales_all_times(times: Times) -> None:
    """By powers of two, which no rounding tells apart, so that every time must be equal to the bit."""
    for seed in range(80):
        case = scenario(seed, times)
        before = run(on_another_clock(case, 1.0))
        for factor in (0.5, 4.0):
            after = run(on_another_clock(case, factor))
            np.testing.assert_array_equal(before.status, after.status)
            for name in TIMES_OF_A_REQUEST:
                np.testing.assert_array_equal(getattr(before, name) * factor, getattr(after, name), err_msg=name)
            for one, other in zip(before.generated_tokens, after.generated_tokens, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("times", TIMES)
def test_what_nothing_shares_a_cache_does_not_change(times: Times) -> None:
    looked_at = 0
    for seed in range(120):
        case = scenario(seed, times)
        alone = [replace(one, prefix_id=np.full_like(one.prefix_id, -1), prefix_tokens=None) for one in case.works]
        # With several samples of one prompt there is something to share.
        if any((np.diff(one.sample_start) > 1).any() for one in alone):
            continue
        looked_at += 1
        runs = []
        for caching in (True, False):
            # Blocks that a preempted sequence finds again are its own.
            changes = {"prefix_caching": caching, "kv_cache_tokens": None}
            deployments = [
                one.model_copy(update=changes) if isinstance(one, GpuPool) else one for one in case.deployments
            ]
            runs.append(run(replace(case, works=alone, deployments=deployments)))
        with_cache, without = runs
        for name in ("status", *TIMES_OF_A_REQUEST):
            np.testing.assert_array_equal(getattr(with_cache, name), getattr(without, name), err_msg=name)
        assert not any(one.any() for one in with_cache.cached_tokens)
    assert looked_at > 20


def gateway(pool: dict[str, Any], requests: int, rate_per_s: float, strategy: str = "Single()") -> Scenario:
    arm = {"profile": "math/sky-t1-32b", "deployment": "pool", "strategy": strategy}
    return scenario_from_dict(
        {
            "name": "relations",
            "replications": 4,
            "workload": {
                "arrivals": {"process": "gamma", "rate_per_s": rate_per_s, "cv": 1.3},
                "requests": requests,
                "sources": {"maths": {"problem_set": "math", "subset": ["aime24", "amc23"]}},
            },
            "deployments": {
                "pool": {
                    "kind": "gpu_pool",
                    "replicas": 2,
                    "usd_per_replica_hour": 4.0,
                    "step_time": {
                        "base_s": 0.008,
                        "per_prefill_token_s": 2e-5,
                        "per_sequence_s": 1e-4,
                        "per_kv_token_s": 1e-8,
                    },
                    "max_num_seqs": 64,
                    "max_num_batched_tokens": 2048,
                    "kv_cache_tokens": 400_000,
                    **pool,
                }
            },
            "arms": {"one": arm, "other": arm},
        }
    )


@pytest.mark.parametrize(
    ("requests", "strategy"), [(1, "Single()"), (40, "Single(cap=2000)"), (25, "MajorityVote(n=3)")]
)
def test_an_arm_under_two_names_gives_one_figure(requests: int, strategy: str) -> None:
    scenario = gateway({}, requests, 0.3, strategy)
    one, other = (ttc.simulate(scenario, Always(arm)).summary().as_json() for arm in ("one", "other"))
    assert one.pop("per_arm") == {"one": other.pop("per_arm")["other"]}  # type: ignore[index]
    assert repr(one) == repr(other)


@SHORT
@given(st.integers(1, 3), st.floats(0.02, 0.4), st.integers(20, 200))
def test_more_replicas_a_faster_step_or_fewer_arrivals_make_nothing_slower(
    replicas: int, rate_per_s: float, requests: int
) -> None:
    def seconds(pool: dict[str, Any], rate_per_s: float) -> dict[str, Estimate]:
        return dict(ttc.simulate(gateway(pool, requests, rate_per_s), Always("one")).summary().latency_s)

    before = seconds({"replicas": replicas}, rate_per_s)
    faster = {
        "base_s": 0.004,
        "per_prefill_token_s": 1e-5,
        "per_sequence_s": 5e-5,
        "per_kv_token_s": 5e-9,
    }
    for change, after in {
        "more replicas": seconds({"replicas": replicas + 1}, rate_per_s),
        "a faster step": seconds({"replicas": replicas, "step_time": faster}, rate_per_s),
        "fewer arrivals": seconds({"replicas": replicas}, rate_per_s / 2),
    }.items():
        for name, figure in after.items():
            assert figure.low <= before[name].high + 1e-9, (change, name)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    scenario = gateway({}, 60, 0.2)
    first, again = (ttc.simulate(scenario, Always("one")) for _ in range(2))
    assert first.records.equals(again.records)
    assert repr(first.summary().as_json()) == repr(again.summary().as_json())
    other = ttc.simulate(scenario.model_copy(update={"seed": 2}), Always("one"))
    assert not other.records.equals(first.records)


@SHORT
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 4))
def test_permuted_rows_of_a_log_give_the_same_profile(seed: int, problems: int, attempts: int) -> None:
    n = problems * attempts
    u = uniforms(seed, "log", n, 3)
    log = pl.DataFrame(
        {
            "problem": [f"p{i // attempts}" for i in range(n)],
            "attempt": [i % attempts for i in range(n)],
            "prompt_tokens": (10 + 50 * u[:, 0]).astype(np.int64),
            "output_tokens": (1 + 900 * u[:, 1]).astype(np.int64),
            "correct": u[:, 2] < 0.5,
        }
    )
    order = np.argsort(uniforms(seed, "order", n)[:, 0])
    card: dict[str, object] = dict.fromkeys(("model", "origin", "licence", "date", "tokenizer", "limits"), "x")
    one, other = (build_profile(table, "log.csv", "mine", card, {})[0] for table in (log, log[order.tolist()]))
    assert one.attempts.equals(other.attempts)
    assert one.card == other.card
