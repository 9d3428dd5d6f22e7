"""Speculative decoding: both engines, closed forms, and what a scenario may say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from tests.random_scenarios import TIMES, Case, Dice, Times, differences, failing_scenario, with_lives
from tests.random_scenarios import scenario as random_case
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, REJECTED, EngineResult, Work
from ttc_sim.optimizer.capacity.bounds import longest_of, needs_of, prices_of, shares_blocks
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.speculation import speculative_table
from ttc_sim.serving.step_time import StepTable, step_seconds, step_table
from ttc_sim.testing.engines import run_both


def speculating(case: Case, seed: int, times: Times) -> Case:
    """The same with pools that speculate."""
    dice = Dice(seed, times, "speculation")
    deployments, tables = list(case.deployments), list(case.tables)
    for at, item in enumerate(deployments):
        if not isinstance(item, GpuPool):
            continue
        drafted = dice.of(0, 1, 1, 2, 3, 4, 7, 12)
        # Mostly halves: then times of the grid stay on it.
        length = dice.of(1.0, drafted + 1.0, min(1.5, drafted + 1), round(1 + dice.whole(0, 100 * drafted) / 100, 2))
        said = {"draft_tokens": drafted, "acceptance_length": length}
        said |= (
            {"draft_s": dice.when((0.0, 0.00137), (0.0, 0.25), (0.0, 0.1))}
            if dice.of(True, True, False)
            else {"draft_share": 0.25}
        )
        given = item.model_dump(exclude={"max_num_batched_tokens", "kv_cache_tokens"})
        room = item.max_num_batched_tokens - item.max_num_seqs
        pool = GpuPool.model_validate(
            {
                **given,
                "speculative": said,
                "max_num_batched_tokens": item.max_num_seqs * (drafted + 1) + room,
                "kv_cache_tokens": None if item.kv_cache_tokens is None else item.kv_cache_tokens + 32 * dice.of(0, 1),
            }
        )
        deployments[at], table = pool, tables[at]
        if table is not None:
            tables[at] = _enlarged(table, pool)
    return replace(case, deployments=deployments, tables=tables)


def _enlarged(table: StepTable, pool: GpuPool) -> StepTable:
    assert pool.speculative is not None
    plain = step_table(
        pool.max_num_batched_tokens,
        pool.max_num_seqs * (pool.speculative.draft_tokens + 1),
        base_s=table.base_s,
        attention=(table.chunks, table.contexts, table.sequences, table.kv, table.attention_s),
    )
    return speculative_table(plain, pool.speculative, pool.max_num_seqs)


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    """Byte for byte, in plenty and where blocks run out, with preemptions, timeouts, cancelled samples and failing replicas."""
    preempted = 0
    for seed in range(60):
        case = [random_case, failing_scenario][seed % 2](seed, times)
        case = speculating(with_lives(case, seed, times) if seed % 3 == 0 else case, seed, times)
        given = case.works, case.names, case.deployments, case.rule, case.until_s
        slow = reference.run(*given, tables=case.tables, following=case.following, outages=case.outages)
        fast = compiled.run(*given, case.tables, following=case.following, outages=case.outages)
        assert differences(slow, fast) == [], f"seed {seed}, {times}"
        preempted += int(slow.preemptions.sum())
    assert preempted > 15


def pool(**changes: Any) -> dict[str, Any]:
    """Iterations that weights bound up to 64 tokens, and that grow with every further one."""
    step = {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 1e-4, "per_kv_token_s": 0.0}
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step, "max_num_seqs": 64}
    return {**given, **changes}


def work_of(prompt: int, outputs: Sequence[int], arrival_s: Sequence[float] | None = None) -> Work:
    """Requests of one stage and sample each, all of the same prompt length, and nothing in common."""
    n = len(outputs)
    return Work(
        arrival_s=np.zeros(n) if arrival_s is None else np.array(arrival_s),
        stage_start=np.arange(n + 1),
        deployment=np.zeros(n, dtype=np.int64),
        prompt_tokens=np.full(n, prompt),
        prefix_id=np.full(n, -1),
        sample_start=np.arange(n + 1),
        reasoning_tokens=np.zeros(n, dtype=np.int64),
        visible_tokens=np.array(outputs),
        first_token_s=np.zeros(n),
        per_token_s=np.zeros(n),
        backoff=np.zeros((n, 0)),
    )


def ran(given: dict[str, Any], work: Work) -> EngineResult:
    return run_both([work], ["pool"], [GpuPool.model_validate(given)])


@pytest.mark.parametrize("length", [1.0, 1.37, 2.0, 2.5, 3.99, 5.0])
@pytest.mark.parametrize("output", [1, 2, 3, 16, 17, 257, 1000])
def test_steps_of_one_answer_by_hand(length: float, output: int) -> None:
    """A first token with the prompt, and then as many steps as ``output - 1`` tokens take at ``length`` each; no token too many."""
    said = {"draft_tokens": 4, "acceptance_length": length, "draft_s": 0.003}
    got = ran(pool(speculative=said), work_of(100, [output]))
    steps = math.ceil((output - 1) / Fraction(str(length)))
    first_s = 0.02 + 100 * 1e-4
    step_s = 0.02 + 0.003 + 1e-4 + 4 * 1e-4
    assert got.first_token_s[0] == pytest.approx(first_s)
    assert got.finished_s[0] == pytest.approx(first_s + steps * step_s)
    assert got.generated_tokens[0].tolist() == [output]


def test_time_per_token_of_a_full_batch_is_that_of_the_step_over_the_acceptance_length() -> None:
    """On the operators of a GPU: each decoding sequence passes all its verified tokens through the dense layers and the LM head."""
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "max_num_seqs": 32}
    given["step_time"] = {"model": "meta-llama/Llama-3.1-70B-Instruct", "gpu": "H100", "tensor_parallel": 4}
    said = {"draft_tokens": 3, "acceptance_length": 2.4, "draft_s": 0.002}
    got = ran({**given, "speculative": said}, work_of(64, [1201] * 32))
    plain = pool_table(GpuPool.model_validate({**given, "max_num_seqs": 128}))
    held = 64 + 1 + 600  # tokens of a sequence half way
    by_hand = step_seconds(plain, 0, 0.0, 128, 0, 128) + 32 * held * plain.per_kv_s + 0.002
    per_token_s = (got.finished_s - got.first_token_s) / 1200
    assert per_token_s.mean() == pytest.approx(by_hand / 2.4, rel=5e-3)


@pytest.mark.parametrize("caching", [True, False])
def test_accepting_nothing_at_no_cost_is_plain_decoding(caching: bool) -> None:
    """And ``draft_tokens: 0`` is, byte for byte, whatever else is said."""
    work = work_of(50, [1, 40, 300, 7], [0.0, 0.1, 0.1, 2.0])
    plain = pool(prefix_caching=caching)
    plain["step_time"]["per_prefill_token_s"] = 0.0
    free = {**plain, "speculative": {"draft_tokens": 3, "acceptance_length": 1.0, "draft_s": 0.0}}
    none = {**plain, "speculative": {"draft_tokens": 0, "profile": "qwen3.5_mtp", "thinking": True, "draft_share": 0.5}}
    assert differences(ran(plain, work), ran(free, work)) == []
    assert differences(ran(plain, work), ran(none, work)) == []


def test_more_accepted_is_never_later_and_more_drafted_never_sooner() -> None:
    work = work_of(200, [50, 400, 31, 900, 5, 77])
    by_length = [
        ran(pool(speculative={"draft_tokens": 4, "acceptance_length": one, "draft_s": 0.001}), work).finished_s
        for one in (1.0, 1.5, 2.25, 3.0, 5.0)
    ]
    assert all((later <= sooner + 1e-12).all() for sooner, later in pairwise(by_length))
    by_drafted = [
        ran(pool(speculative={"draft_tokens": k, "acceptance_length": 2.0, "draft_share": 0.1}), work).finished_s
        for k in (1, 2, 4, 8)
    ]
    assert all((more > fewer).all() for fewer, more in pairwise(by_drafted))


def test_blocks_are_those_of_verified_and_drafted_tokens() -> None:
    """At its last step the answer holds room for all of it but its last token, and for two drafts: so much must fit, or nothing."""
    said = {"draft_tokens": 4, "acceptance_length": 2.5, "draft_s": 0.0}
    prompt, output = 20, 21
    least = prompt + output - 1 + 2 * 4  # 48: three blocks
    assert ran(pool(speculative=said, kv_cache_tokens=least), work_of(prompt, [output])).status[0] == COMPLETED
    assert ran(pool(speculative=said, kv_cache_tokens=least - 16), work_of(prompt, [output])).status[0] == REJECTED
    assert ran(pool(kv_cache_tokens=least), work_of(prompt, [output + 8])).status[0] == COMPLETED


def test_no_run_is_shorter_than_its_work() -> None:
    """The bounds of capacity beside what random runs took, as for plain decoding."""
    nearest = 0.0
    for times, seed in product(TIMES, range(25)):
        case = speculating(random_case(seed, times), seed, times)
        work = case.works[0]
        got = compiled.run([work], case.names, case.deployments, tables=case.tables)
        for d, item in enumerate(case.deployments):
            if not isinstance(item, GpuPool):
                continue
            needs, answered = needs_of(work, d, item), got.status == COMPLETED
            tokens = [one[answered].sum() for one in (needs.prompt, needs.generated, needs.kv)]
            longest = max(int(longest_of(work, d).max()), 1)
            for price in prices_of(case.tables[d] or pool_table(item), item, longest, shares_blocks(work)):
                seconds = float(np.dot(tokens, [price.prompt, price.generated, price.kv]))
                assert seconds <= got.busy_s[d] * (1 + 1e-9)
                nearest = max(nearest, seconds / max(got.busy_s[d], 1e-9))
    assert nearest > 0.8
