"""Data-parallel ranks: both engines to the last digit, and what a group of them must be beside servers of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.random_scenarios import TIMES, Case, Dice, Times, differences, failing_scenario, scenario, with_tree
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import EngineResult
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable


def with_ranks(case: Case, seed: int, times: Times) -> Case:
    """The same with pools of several ranks, two thirds of which step together."""
    dice = Dice(seed, times, "ranks")
    pools: list[Api | GpuPool] = []
    tables: list[StepTable | None] = []
    for item, table in zip(case.deployments, case.tables, strict=True):
        if not isinstance(item, GpuPool):
            pools.append(item)
            tables.append(table)
            continue
        ranks, step_s = dice.of(1, 2, 2, 3, 4), dice.when((0.0007, 0.0031), (1 / 256, 1 / 64), (0.001, 0.01))
        balancer = dice.of(item.load_balancer, item.load_balancer, "prefix")
        pools.append(item.model_copy(update={"data_parallel": ranks, "load_balancer": balancer}))
        together = dice.of(True, True, False) and ranks > 1
        shared_s = step_s * np.arange(ranks * item.max_num_batched_tokens + 1, dtype=np.float64)
        table = table or pool_table(item)
        tables.append(table._replace(ranks=ranks, shared_s=shared_s) if together else table)
    return replace(case, deployments=pools, tables=tables)


def both(case: Case, interval_s: float | None = None) -> tuple[EngineResult, EngineResult]:
    given = (case.works, case.names, case.deployments, case.rule, None if interval_s else case.until_s)
    more = {"tables": case.tables, "following": case.following, "outages": case.outages, "interval_s": interval_s}
    return reference.run(*given, **more), compiled.run(*given, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    for seed in range(120):
        for made in (scenario, failing_scenario):
            case = with_ranks(with_tree(made(seed, times), seed, times), seed, times)
            assert differences(*both(case)) == [], f"with_ranks(with_tree({made.__name__}({seed}, {times!r})))"
