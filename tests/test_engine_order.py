"""What comes first at one instant (docs/engine-order.md), by hand, in both engines. An iteration takes one second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.test_engine import api, pool, work
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT, EngineResult, Work
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool, LinearStepTime, Retry

SECOND = LinearStepTime(base_s=1.0, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
Engine = Callable[..., EngineResult]
both = pytest.mark.parametrize("engine", [reference.run, compiled.run], ids=["reference", "compiled"])


def steady(**changes: object) -> GpuPool:
    return pool(step_time=SECOND, **changes)


def prompt_api(**changes: object) -> Api:
    """Clients that are answered 429 call again a second later."""
    return api(retry=Retry(retries=1, base_s=1.0, max_s=1.0), **changes)


def in_stages(deployments: list[list[int]], tokens: list[list[int]], **changes: object) -> Work:
    """Requests that all arrive at 0, each with stages of one sample."""
    stages = [len(of) for of in deployments]
    total = sum(stages)
    made = Work(
        arrival_s=np.zeros(len(stages)),
        stage_start=np.concatenate([[0], np.cumsum(stages)]).astype(np.int64),
        deployment=np.array([d for of in deployments for d in of]),
        prompt_tokens=np.ones(total, dtype=np.int64),
        prefix_id=np.full(total, -1),
        sample_start=np.arange(total + 1),
        reasoning_tokens=np.zeros(total, dtype=np.int64),
        visible_tokens=np.array([t for of in tokens for t in of]),
        first_token_s=np.ones(total),
        per_token_s=np.ones(total),
        backoff=np.full((len(stages), 10), 0.5),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@both
def test_an_answer_at_the_timeout_is_in_time(engine: Engine) -> None:
    for server in (steady(timeout_s=3.0), api(timeout_s=3.0)):
        got = engine([work([0.0], [1], [[3]], first_s=1.0, per_token_s=1.0)], ["x"], [server])
        assert got.status.tolist() == [COMPLETED]
        assert got.finished_s.tolist() == [3.0]


@both
@pytest.mark.parametrize("timeout_s", [2.5, 3.0])
def test_who_gives_up_leaves_with_the_iteration_in_progress_or_the_one_that_ends(
    engine: Engine, timeout_s: float
) -> None:
    made = work([0.0, 2.25], [1, 1], [[10], [1]])
    got = engine([made], ["p"], [steady(max_num_seqs=1, timeout_s=timeout_s)])
    assert got.status.tolist() == [TIMED_OUT, COMPLETED]
    assert got.generated_tokens[0].tolist() == [3, 1]
    assert got.finished_s.tolist() == [timeout_s, 4.0]
    assert got.busy_s[0] == 4.0


@both
def test_who_arrives_as_an_iteration_ends_is_in_the_next(engine: Engine) -> None:
    got = engine([work([0.0, 5.0, 5.0], [1] * 3, [[20], [1], [2]])], ["p"], [steady(max_num_seqs=3)])
    assert got.started_s.tolist() == [0.0, 5.0, 5.0]
    assert got.finished_s.tolist() == [20.0, 6.0, 7.0]


@both
def test_a_place_freed_at_an_instant_is_there_for_who_asks_at_that_instant(engine: Engine) -> None:
    made = work([0.0, 1.0, 2.0], [1] * 3, [[1]] * 3, first_s=1.0)
    for server in (prompt_api(concurrency=1), steady(max_num_seqs=1, queue_limit=0)):
        got = engine([made], ["x"], [server])
        assert got.status.tolist() == [COMPLETED] * 3
        assert got.finished_s.tolist() == [1.0, 2.0, 3.0]
        assert not got.retries.any()


@both
@pytest.mark.parametrize(("on_timeout", "retries"), [("stop", 0), ("finish", 1)])
def test_a_call_that_is_given_up_makes_room_at_once(engine: Engine, on_timeout: str, retries: int) -> None:
    made = work([0.0, 2.0], [1, 1], [[2], [1]], first_s=1.0, per_token_s=1.25)
    got = engine([made], ["a"], [prompt_api(concurrency=1, timeout_s=2.0, on_timeout=on_timeout)])
    assert got.status.tolist() == [TIMED_OUT, COMPLETED]
    assert got.retries.tolist() == [0, retries]


@both
def test_the_lowest_number_goes_first_whatever_it_does(engine: Engine) -> None:
    # At 1: request 0 is answered, 1 calls again, 2 arrives; there is one place.
    got = engine([work([0.0, 0.0, 1.0], [1] * 3, [[1]] * 3, first_s=1.0)], ["a"], [prompt_api(concurrency=1)])
    assert got.started_s.tolist() == [0.0, 1.0, 2.0]
    # Request 1 follows 0 at once, 2 arrives by itself; and the other way round.
    for after, expected in (([-1, 0, -1], [0.0, 1.0, 2.0]), ([-1, -1, 0], [0.0, 1.0, 2.0])):
        made = dataclasses.replace(
            work([0.0, 1.0, 1.0], [1] * 3, [[1]] * 3), after=np.array(after), think_s=np.zeros(3)
        )
        got = engine([made], ["p"], [steady(max_num_seqs=1)])
        assert got.arrival_s.tolist() == [0.0, 1.0, 1.0]
        assert got.started_s.tolist() == expected


@both
def test_all_replicas_end_before_the_next_stages_are_shared_out(engine: Engine) -> None:
    # 0 and 2 are on the first replica and go on, 1 is on the second and does not; all end at 1.
    made = in_stages([[0, 0], [0], [0, 0]], [[1, 5], [1], [1, 5]])
    got = engine([made], ["p"], [steady(replicas=2, max_num_seqs=2)])
    assert got.finished_s.tolist() == [6.0, 1.0, 6.0]
    assert got.busy_s[0] == 12.0  # 1 + 1, then each alone: 5 + 5


@both
def test_a_live_policy_sees_what_ends_at_that_instant_and_not_what_begins(engine: Engine) -> None:
    arrivals = [0.0, 0.0, 2.0, 2.0]
    works = [work(arrivals, [1] * 4, [[2], [2], [1], [1]], deployment=[d] * 4) for d in (0, 1)]
    order = np.stack([np.arange(2)] * 4)
    servers = [steady(), steady()]
    for rule, expected in (
        (LiveRule("least_loaded", order, limit=1), [0, 1, 0, 1]),
        (LiveRule("overflow", order, limit=1), [0, 1, 0, 1]),
    ):
        got = engine(works, ["p", "q"], servers, rule)
        assert got.arm.tolist() == expected
        assert got.finished_s.tolist() == [2.0, 2.0, 3.0, 3.0]


@both
def test_nobody_calls_again_at_the_moment_of_giving_up(engine: Engine) -> None:
    made = work([0.0, 0.0], [1, 1], [[1], [1]], first_s=1.0)
    got = engine([made], ["a"], [prompt_api(concurrency=1, timeout_s=1.0)])
    assert got.status.tolist() == [COMPLETED, TIMED_OUT]
    assert got.retries.tolist() == [0, 0]
    assert got.prefilled_tokens[0].tolist() == [1, 0]


@both
@pytest.mark.parametrize("second", [0, 1])
def test_a_stage_that_would_begin_at_the_timeout_does_not(engine: Engine, second: int) -> None:
    made = in_stages([[0, second]], [[2, 2]])
    got = engine([made], ["a", "p"], [api(timeout_s=2.0), steady(timeout_s=2.0)])
    assert got.status.tolist() == [TIMED_OUT]
    assert got.finished_s.tolist() == [2.0]
    assert got.prefilled_tokens[0].tolist() == [1, 0]
    assert got.generated_tokens[0].tolist() == [2, 0]


@both
def test_what_takes_no_time_follows_at_once_and_in_order(engine: Engine) -> None:
    # One place, calls that take no time: each of ten users' requests finds it free, and is over before the next one acts.
    n = 40
    after = np.concatenate([np.full(10, -1), np.arange(n - 10)])
    made = work(np.zeros(n), [1] * n, [[1]] * n, first_s=0.0)
    made = dataclasses.replace(made, after=after, think_s=np.zeros(n))
    got = engine([made], ["a"], [prompt_api(concurrency=1)])
    assert got.status.tolist() == [COMPLETED] * n
    assert not got.finished_s.any()
    # Calls that take a second: of the ten one is served, and so on at each second; who is refused twice is over, and is followed
    # by its user's next request.
    slow = dataclasses.replace(made, first_token_s=np.ones(n))
    got = engine([slow], ["a"], [prompt_api(concurrency=1)])
    served = np.flatnonzero(got.status == COMPLETED)
    assert got.finished_s[served].tolist() == sorted(got.finished_s[served])
    assert got.finished_s[served].tolist() == list(range(1, len(served) + 1))
    assert set(got.status.tolist()) == {COMPLETED, REJECTED}


@both
def test_times_are_worked_out_from_the_beginning_of_a_line(engine: Engine) -> None:
    # Steps of a tenth of a second, which no binary fraction is: two replicas fall into step at 2, as far as rounding lets them.
    step = LinearStepTime(base_s=0.1, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
    made = work([0.0, 0.5, 1.0, 2.0], [1] * 4, [[20], [15], [1], [1]])
    got = engine([made], ["p"], [pool(step_time=step, replicas=2, max_num_seqs=1)])
    # Prompt until 0.1 and 0.6, and from there 19 and 14 steps; that one arrives at 1, and waits, is no reason to begin anew.
    assert got.finished_s[:2].tolist() == [0.1 + 19 * 0.1, (0.5 + 0.1) + 14 * 0.1]
    assert got.finished_s[2:].tolist() == [got.finished_s[0] + 0.1, max(2.0, got.finished_s[1]) + 0.1]


@both
def test_stopping_the_clock_in_an_iteration_that_a_sequence_sits_out(engine: Engine) -> None:
    # In the 18th second the second request needs a third block, there is none, and it goes, being the least urgent; whoever came
    # after it sits that iteration out, and keeps the 16 tokens that it has had since the second second.
    made = dataclasses.replace(work([0.0, 0.0, 0.5], [1, 16, 1], [[30], [30], [30]]), priority=np.array([0, 1, 0]))
    server = steady(scheduling="priority", kv_cache_tokens=80, max_num_seqs=3)
    got = engine([made], ["p"], [server], until_s=17.5)
    assert got.preemptions.tolist() == [0, 1, 0]
    assert got.generated_tokens[0].tolist() == [17, 17, 16]
    assert got.busy_s[0] == 17.5
