"""Speculative decoding: both engines, closed forms, and what a scenario may say of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.random_scenarios import TIMES, Case, Dice, Times, differences, failing_scenario, scenario, with_lives
from ttc_sim.engine import compiled, reference
from ttc_sim.scenario import GpuPool
from ttc_sim.serving.speculation import speculative_table
from ttc_sim.serving.step_time import StepTable, step_table


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
        said |= {"draft_s": dice.when((0.0, 0.00137), (0.0, 0.25), (0.0, 0.1))} if dice.of(True, True, False) else {"draft_share": 0.25}
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
    for seed in range(200):
        case = [scenario, failing_scenario][seed % 2](seed, times)
        case = speculating(with_lives(case, seed, times) if seed % 3 == 0 else case, seed, times)
        given = case.works, case.names, case.deployments, case.rule, case.until_s
        slow = reference.run(*given, tables=case.tables, following=case.following, outages=case.outages)
        fast = compiled.run(*given, case.tables, following=case.following, outages=case.outages)
        assert differences(slow, fast) == [], f"seed {seed}, {times}"
        preempted += int(slow.preemptions.sum())
    assert preempted > 50
