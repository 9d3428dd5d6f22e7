"""Answers that are with their clients later than the server's loop has made them: front end, and iterations of its pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.random_scenarios import (
    TIMES,
    Case,
    Dice,
    Times,
    differences,
    failing_scenario,
    scenario,
    with_arguments,
    with_lives,
    with_prefill_apart,
)
from tests.test_ranks import both, with_ranks
from tests.test_speculation import speculating
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, IN_FLIGHT, TIMED_OUT, EngineResult, Work, single_stage
from ttc_sim.scenario import GpuPool, load_scenario
from ttc_sim.serving.corrections import fitted
from ttc_sim.serving.physics import FRONTEND_S, PIPELINE_STEPS
from ttc_sim.serving.pools import pool_table


def with_answers_behind(case: Case, seed: int, times: Times) -> Case:
    """The same with pools of which most let clients wait for what they have made."""
    dice = Dice(seed, times, "behind")
    tables = []
    for item, given in zip(case.deployments, case.tables, strict=True):
        frontend_s = dice.when((0.0, 0.0137, 0.713), (0.0, 0.25, 1.0), (0.0, 0.1, 0.6))
        steps = dice.of(0.0, 0.5, 1.0, 1.0, 4.0)
        token_s = dice.when((0.0, 0.0007), (0.0, 1 / 64), (0.0, 0.01))
        table = given or pool_table(item) if isinstance(item, GpuPool) else None
        more = {"frontend_s": frontend_s, "prompt_token_s": token_s, "pipeline_steps": steps}
        tables.append(table and table._replace(**more))  # type: ignore[arg-type]
    return replace(case, tables=tables)


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    """Plain ones, and where replicas come and go and fail, ranks step together, prefill is apart, tokens are drafted."""
    late = 0
    for seed in range(60):
        failing, plain = failing_scenario(seed, times), scenario(seed, times)
        kinds = {
            "plain": plain,
            "failing with lives": with_lives(failing, seed, times),
            "ranks": with_ranks(failing, seed, times),
            "apart": with_prefill_apart(plain, seed, times),
            "speculating": speculating(failing, seed, times),
            "arguments": with_arguments(failing, seed, times),
        }
        for name, case in kinds.items():
            slow, fast = both(with_answers_behind(case, seed, times))
            assert differences(slow, fast) == [], f"{name} of seed {seed}, {times}"
            late += int((slow.status == TIMED_OUT).sum())
    assert late > 100


@pytest.mark.parametrize("times", TIMES)
def test_times_of_an_answer_move_together_and_the_server_knows_nothing_of_it(times: Times) -> None:
    """Where nobody waits for an answer to go on, or gives up, all else is as without."""
    moved = 0
    for seed in range(120):
        case = scenario(seed, times)
        given = [
            item.model_copy(update={"timeout_s": None, "deadline_s": None, "retry": None})
            if isinstance(item, GpuPool)
            else item
            for item in case.deployments
        ]
        work = case.works[0]
        if work.after is not None or case.rule is not None or len(work.deployment) > work.requests:
            continue
        plain = replace(case, deployments=given, until_s=None)
        late = with_answers_behind(plain, seed, times)
        before, after = both(plain)[1], both(late)[1]
        done = before.status == COMPLETED
        assert (before.status == after.status).all()
        assert (before.busy_s == after.busy_s).all()
        pool = np.array([isinstance(item, GpuPool) for item in given])[work.deployment] & done
        shift_s = (after.finished_s - before.finished_s)[pool]
        assert (shift_s >= 0).all()
        if (np.diff(work.sample_start)[pool] == 1).all():
            assert after.first_token_s[pool] - before.first_token_s[pool] == pytest.approx(shift_s, abs=1e-9)
        assert (after.finished_s == before.finished_s)[~pool & done].all()
        moved += int((shift_s > 0).sum())
    assert moved > 100


def pool(**changes: Any) -> GpuPool:
    step = {"base_s": 0.5, "per_prefill_token_s": 0.0, "per_sequence_s": 0.125, "per_kv_token_s": 0.0}
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step, "max_num_seqs": 4}
    return GpuPool.model_validate({**given, "host": {"frontend_s": 0.25, "pipeline_steps": 2.0}, **changes})


def run(of: GpuPool, work: Work, until_s: float | None = None) -> EngineResult:
    slow, fast = (by([work], ["p"], [of], until_s=until_s) for by in (reference.run, compiled.run))
    assert differences(slow, fast) == []
    return fast


def one(tokens: int, **more: Any) -> Work:
    return replace(single_stage(np.array([1.0]), np.array([8]), np.array([tokens])), **more)


def test_an_answer_by_hand() -> None:
    got = run(pool(), one(5))
    # Prefill of 0.5 s, four iterations of 0.625 s, and then 0.25 s and two iterations more.
    assert got.finished_s.tolist() == [1.0 + 0.5 + 4 * 0.625 + 0.25 + 2 * 0.625]
    assert got.first_token_s.tolist() == [1.0 + 0.5 + 0.25 + 2 * 0.625]
    assert got.busy_s.tolist() == [0.5 + 4 * 0.625]
    longer = run(pool(host={"frontend_s": 0.25, "prompt_token_s": 0.03125, "pipeline_steps": 2.0}), one(5))
    assert longer.first_token_s.tolist() == [got.first_token_s[0] + 8 * 0.03125]
    alone = run(pool(), one(1))
    assert alone.first_token_s.tolist() == alone.finished_s.tolist() == [1.0 + 0.5 + 0.25]


def test_each_stage_waits_for_the_answer_before() -> None:
    work = Work(
        arrival_s=np.array([0.0]),
        stage_start=np.array([0, 2]),
        deployment=np.zeros(2, dtype=np.int64),
        prompt_tokens=np.array([8, 8]),
        prefix_id=np.array([-1, -1]),
        sample_start=np.array([0, 1, 2]),
        reasoning_tokens=np.zeros(2, dtype=np.int64),
        visible_tokens=np.array([1, 1]),
        first_token_s=np.zeros(2),
        per_token_s=np.zeros(2),
        backoff=np.zeros((1, 0)),
    )
    got = run(pool(), work)
    assert got.finished_s.tolist() == [2 * (0.5 + 0.25)]
    assert got.first_token_s.tolist() == [0.5 + 0.25]


@pytest.mark.parametrize(
    ("timeout_s", "status", "first_s"),
    [(4.5, COMPLETED, 3.0), (4.49, TIMED_OUT, 3.0), (3.5, TIMED_OUT, 3.0), (2.0, TIMED_OUT, 1.5)],
)
def test_one_that_is_on_its_way_as_time_is_up_is_too_late(timeout_s: float, status: int, first_s: float) -> None:
    """It was made in full, and is paid for; a client that gives up while it is being made sees what there was by then."""
    got = run(pool(timeout_s=timeout_s), one(5))
    assert got.status.tolist() == [status]
    assert got.first_token_s.tolist() == [first_s]
    assert got.finished_s.tolist() == [1.0 + timeout_s]
    assert got.generated_tokens[0].tolist() == [5 if timeout_s >= 3.0 else 4]


def test_a_first_token_that_nobody_waits_for_any_more_has_not_come() -> None:
    got = run(pool(timeout_s=0.6), one(1))
    assert got.status.tolist() == [TIMED_OUT]
    assert np.isnan(got.first_token_s).all()


def test_one_that_is_on_its_way_as_the_clock_stops_is_in_flight() -> None:
    got = run(pool(), one(1), until_s=1.75)
    assert got.status.tolist() == [IN_FLIGHT]
    assert np.isnan(got.first_token_s).all()
    assert np.isnan(got.finished_s).all()
    assert got.generated_tokens[0].tolist() == [1]


def test_iterations_are_those_since_it_was_decoded_last() -> None:
    """What a preempted sequence waited for is no iteration's length."""
    of = pool(kv_cache_tokens=48, prefix_caching=False, host={"pipeline_steps": 1.0})
    work = single_stage(np.array([0.0, 0.0]), np.array([15, 15]), np.array([17, 17]))
    got = run(of, work)
    assert got.preemptions.sum() > 0
    plain = run(pool(kv_cache_tokens=48, prefix_caching=False, host=None), work)
    assert (got.finished_s - plain.finished_s).max() <= 0.75


def test_what_a_pool_takes_by_default_and_by_its_host(tmp_path: Any) -> None:
    def behind(**given: Any) -> tuple[float, float]:
        table = pool_table(pool(host=None, **given))
        return table.frontend_s, table.pipeline_steps

    physics = {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100", "tensor_parallel": 1}
    assert behind() == (0.0, 0.0)
    assert behind(step_time=physics) == (FRONTEND_S, PIPELINE_STEPS)
    catalogue = {"step_time": None, "model": "Qwen/Qwen3-32B", "gpu": "h100_sxm", "tensor_parallel": 2}
    dense = fitted()["dense"]
    assert behind(**catalogue) == (1e-3 * dense.first_token_ms, dense.pipeline_steps)
    assert pool_table(pool(host=None, **catalogue)).prompt_token_s == 1e-6 * dense.prompt_token_us > 0
    assert behind(**catalogue, speculative={"draft_tokens": 2, "acceptance_length": 2.0}) == behind(**catalogue)
    own = pool_table(pool(step_time=physics, host={"frontend_s": 0.0}))
    assert (own.frontend_s, own.pipeline_steps) == (0.0, PIPELINE_STEPS)


@pytest.mark.parametrize(("key", "value"), [("frontend_s", -0.1), ("pipeline_steps", "two"), ("frontend_s", "nan")])
def test_one_line_says_what_is_wrong(tmp_path: Any, key: str, value: Any) -> None:
    said = f"""
name: bad
workload: {{arrivals: {{process: poisson, rate_per_s: 1}}, requests: 5, lengths: {{prompt_tokens: 4, output_tokens: 2}}}}
arms: {{a: {{deployment: p}}}}
deployments:
  p: {{kind: gpu_pool, replicas: 1, usd_per_replica_hour: 1, host: {{{key}: {value}}},
      step_time: {{base_s: 0.01, per_prefill_token_s: 0.0, per_sequence_s: 0.0, per_kv_token_s: 0.0}}}}
"""
    path = tmp_path / "bad.yaml"
    path.write_text(said)
    with pytest.raises(InputError, match=f"host.{key}"):
        load_scenario(path)
