"""Both engines on the same random scenarios: equal times, tokens and preemptions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttc_sim.base.draws import uniforms
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.kv_cache import blocks_for
from ttc_sim.engine.replica import Replica
from ttc_sim.engine.work import Work
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool, Latency, LinearStepTime, Price, Retry
from ttc_sim.testing.engines import assert_same


@dataclass
class Case:
    works: list[Work]
    deployments: list[Api | GpuPool]
    rule: LiveRule | None
    until_s: float | None


@st.composite
def pools(draw: st.DrawFn) -> GpuPool:
    batch = draw(st.sampled_from([1, 2, 3, 5, 8, 16]))
    base_s = draw(st.sampled_from([0.0, 0.0113, 0.031]))
    step = LinearStepTime(
        base_s=base_s,
        per_prefill_token_s=draw(st.sampled_from([1.7e-4, 0.0031] if base_s == 0 else [0.0, 1.7e-4, 0.0031])),
        per_sequence_s=draw(st.sampled_from([0.0017, 0.0113])),
        per_kv_token_s=draw(st.sampled_from([0.0, 1.9e-5, 3.1e-4])),
    )
    return GpuPool.model_validate(
        {
            "kind": "gpu_pool",
            "replicas": draw(st.integers(1, 3)),
            "usd_per_replica_hour": 1.0,
            "step_time": step,
            "max_num_seqs": batch,
            "max_num_batched_tokens": batch + draw(st.sampled_from([0, 1, 7, 30, 200])),
            "kv_cache_tokens": draw(st.sampled_from([None, 96, 160, 320, 640])),
            "prefix_caching": draw(st.booleans()),
            "load_balancer": draw(st.sampled_from(["round_robin", "least_outstanding", "least_kv", "session"])),
            "scheduling": draw(st.sampled_from(["fcfs", "priority"])),
            "queue_limit": draw(st.sampled_from([None, None, 0, 3])),
            # Off the grid of the step times: rounding decides a tie of a timeout with the end of an iteration.
            "timeout_s": draw(st.sampled_from([None, None, 0.712345678, 4.039123456])),
        }
    )


@st.composite
def apis(draw: st.DrawFn) -> Api:
    return Api(
        kind="api",
        price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        first_token=Latency(median_s=1.0),
        per_token=Latency(median_s=0.1),
        requests_per_minute=draw(st.sampled_from([None, 30.0, 400.0])),
        tokens_per_minute=draw(st.sampled_from([None, 2000.0, 90000.0])),
        concurrency=draw(st.sampled_from([None, 1, 4])),
        timeout_s=draw(st.sampled_from([None, 0.917345678, 5.137712345])),
        retry=Retry(retries=draw(st.integers(0, 4)), base_s=0.1371, max_s=1.0),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    seed = draw(st.integers(0, 2**32))
    n = draw(st.integers(1, 40))
    deployments: list[Api | GpuPool] = draw(st.lists(st.one_of(pools(), pools(), apis()), min_size=1, max_size=3))
    rate = draw(st.sampled_from([0.7, 6.0, 60.0]))
    users = draw(st.sampled_from([0, 0, 1, 4]))
    long = draw(st.sampled_from([3, 40, 200]))
    most_samples = draw(st.sampled_from([1, 1, 3]))
    prefixes = draw(st.sampled_from([0, 2, 5]))
    u = uniforms(seed, "case", n, 10)
    arrival_s = np.cumsum(-np.log(u[:, 0])) / rate
    priority = (u[:, 1] * 3).astype(np.int64) if draw(st.booleans()) else None
    after = None
    if users and n > users:
        after = np.concatenate([np.full(users, -1), np.arange(n - users)]).astype(np.int64)
    rule = None
    arms = 1
    if draw(st.booleans()) and len(deployments) > 1:
        arms = len(deployments)
        order = np.stack([np.arange(arms)] * n)
        rule = LiveRule(draw(st.sampled_from(["overflow", "least_loaded"])), order, limit=draw(st.integers(1, 3)))
    needed_too = draw(st.booleans())
    conversation = draw(st.booleans())
    works = []
    for arm in range(arms):
        stages = 1 + (uniforms(seed, f"stages{arm}", n)[:, 0] * draw(st.sampled_from([1, 1, 3]))).astype(np.int64)
        total = int(stages.sum())
        v = uniforms(seed, f"stage{arm}", total, 6)
        samples = 1 + (v[:, 0] * most_samples).astype(np.int64)
        w = uniforms(seed, f"sample{arm}", int(samples.sum()), 4)
        prompt = 1 + (v[:, 1] ** 2 * long).astype(np.int64)
        stage_start = np.concatenate([[0], np.cumsum(stages)]).astype(np.int64)
        deployment = (v[:, 2] * len(deployments)).astype(np.int64)
        if rule is not None:
            deployment[stage_start[:-1]] = arm
        works.append(
            Work(
                arrival_s=arrival_s,
                stage_start=stage_start,
                deployment=deployment,
                prompt_tokens=prompt,
                prefix_id=(v[:, 3] * prefixes).astype(np.int64) - (v[:, 3] < 0.2) if prefixes else np.full(total, -1),
                sample_start=np.concatenate([[0], np.cumsum(samples)]).astype(np.int64),
                reasoning_tokens=(w[:, 0] ** 2 * long).astype(np.int64),
                visible_tokens=1 + (w[:, 1] * 9).astype(np.int64),
                first_token_s=0.1 + w[:, 2],
                per_token_s=0.03 * w[:, 3],
                backoff=uniforms(seed, "backoff", n, 5),
                prefix_tokens=(v[:, 4] * 1.5 * long).astype(np.int64) if conversation else None,
                needed=1 + (v[:, 5] * samples).astype(np.int64) if needed_too else None,
                priority=priority,
                after=after,
                think_s=None if after is None else -np.log(u[:, 2]) / rate,
            )
        )
    until_s = draw(st.sampled_from([None, None, 1.7391, 6.1173]))
    return Case(works, deployments, rule, until_s)


def names(case: Case) -> list[str]:
    return [str(i) for i in range(len(case.deployments))]


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases())
def test_engines_agree(case: Case) -> None:
    slow = reference.run(case.works, names(case), case.deployments, case.rule, case.until_s)
    fast = compiled.run(case.works, names(case), case.deployments, case.rule, case.until_s)
    assert_same(slow, fast)


def watch(replica: Replica) -> None:
    """What must hold at the beginning and end of every iteration."""
    cache, pool = replica.kv, replica.pool
    chains = {id(chain): chain for one in replica.running for chain, _ in one.chains}
    held = sum(one.blocks - one.shared for one in replica.running)
    held += sum(chain.end - chain.start for chain in chains.values())
    assert held + cache.free == cache.total
    assert sum(freed.blocks for freed in cache.queue.values()) == cache.free
    assert len(replica.running) <= pool.max_num_seqs
    assert sum(replica.batch.values()) <= pool.max_num_batched_tokens
    for one in replica.running:
        assert one.blocks >= blocks_for(one.computed)
        assert 0 <= one.generated <= one.output
    # Work conservation: an iteration begins with as many as it can take, or with nobody waiting.
    if replica.batch and replica.kv.total > 1 << 30 and sum(replica.batch.values()) < pool.max_num_batched_tokens:
        assert not replica.waiting or len(replica.running) == pool.max_num_seqs


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases())
def test_invariants_hold_at_every_iteration(case: Case) -> None:
    clocks: dict[int, float] = {}

    def at_every_event(replica: Replica) -> None:
        watch(replica)
        now_s = float(replica.recorder.env.now)
        assert now_s >= clocks.get(id(replica), 0.0)
        clocks[id(replica)] = now_s
        simulation = replica.recorder
        known = (~np.isnan(simulation.finished_s)).sum() + (simulation.status == 3).sum()
        assert known == len(simulation.status)

    got = reference.run(case.works, names(case), case.deployments, case.rule, case.until_s, at_every_event)
    done = got.status == 0
    assert (
        np.diff([got.arrival_s[done], got.started_s[done], got.first_token_s[done], got.finished_s[done]], axis=0)
        >= -1e-9
    ).all()
    for index, work in enumerate(case.works):
        assert (got.generated_tokens[index] <= work.reasoning_tokens + work.visible_tokens).all()
        assert (got.cached_tokens[index] <= np.maximum(got.prefilled_tokens[index], 0)).all()
