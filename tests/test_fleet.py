"""Replicas that start, drain, fail and are repaired: by hand in both engines, against closed forms, and their bills."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.random_scenarios import TIMES, Times, differences, scenario, with_lives
from tests.test_bills import STEP, replayed
from tests.test_engine import work
from tests.test_engine_order import both, steady
from tests.test_targets import api, plain
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.fleet import (
    DRAINING,
    IN_SERVICE,
    OFF,
    PROVISIONED,
    STARTING,
    UNDER_REPAIR,
    FailureTimes,
    level_seconds,
    nth_smallest,
    weight_of,
)
from ttc_sim.engine.work import BUSY, COMPLETED, FAILED, EngineResult, single_stage
from ttc_sim.optimizer.optimizing import optimize
from ttc_sim.optimizer.proposing.proposal import allowed_replicas
from ttc_sim.policies import LiveRule
from ttc_sim.reporting.text import replicas_lines
from ttc_sim.scenario import Autoscaling, Failures, GpuPool, ScaleRule, StartUp, scenario_from_dict
from ttc_sim.serving.pools import with_weights
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate

Engine = Callable[..., EngineResult]
Log = list[tuple[float, int, int]]


def log(got: EngineResult) -> Log:
    assert got.fleet is not None
    return list(zip(got.fleet.at_s.tolist(), got.fleet.replica.tolist(), got.fleet.state.tolist(), strict=True))


def seconds(got: EngineResult, states: tuple[int, ...], from_s: float, to_s: float, d: int = 0) -> float:
    assert got.fleet is not None
    return float(level_seconds(*got.fleet.level(d, states), np.array([from_s]), np.array([to_s]))[0])


def failing(*at: tuple[int, float, float], start_s: float = 0.0, **changes: Any) -> GpuPool:
    failures = {"at": [{"replica": r, "at_s": t, "repair_s": repair} for r, t, repair in at]}
    return steady(failures=failures, start_up={"seconds": start_s}, **changes)


def scaled(start_s: float = 0.0, replicas: int = 1, **rule: Any) -> GpuPool:
    given = {"minimum": 1, "maximum": 4, **rule}
    limits = {"max_num_seqs": given.pop("max_num_seqs", 8), "load_balancer": given.pop("balancer", "least_outstanding")}
    return steady(replicas=replicas, autoscaling=given, start_up={"seconds": start_s}, **limits)


# ------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("times", TIMES)
def test_both_engines_record_the_same_levels(times: Times) -> None:
    for seed in range(25):
        case = with_lives(scenario(seed, times), seed, times)
        given = case.works, case.names, case.deployments, case.rule
        for interval_s in (0.25, 7.0):
            slow = reference.run(*given, tables=case.tables, interval_s=interval_s)
            fast = compiled.run(*given, tables=case.tables, interval_s=interval_s)
            assert differences(slow, fast) == []
            assert slow.levels_s is not None
            assert fast.levels_s is not None
            np.testing.assert_allclose(slow.levels_s, fast.levels_s, rtol=1e-9, atol=1e-9, err_msg=f"{seed} {times}")
            np.testing.assert_allclose(fast.levels_s[..., BUSY].sum(axis=0), fast.busy_s, rtol=1e-9, atol=1e-9)
        plainly = compiled.run(*given, tables=case.tables)
        assert plainly.finished_s.tobytes() == fast.finished_s.tobytes()


RULES: tuple[dict[str, Any], ...] = (
    {"schedule": [{"duration_s": 1.0, "replicas": 2}, {"duration_s": 2.0, "replicas": 2}]},
    {"target_concurrency": 0.5, "every_s": 0.25},
    {"target_utilisation": 0.9, "every_s": 0.3},
    {"target_queue": 3.0, "every_s": 0.7},
    {"target_ttft_s": 0.01, "every_s": 1.0},
)


@pytest.mark.parametrize("failures", [None, {"mtbf_h": 4 / 3600, "mttr_h": 1 / 3600}])
def test_autoscaling_between_n_and_n_is_n_replicas(failures: dict[str, float] | None) -> None:
    """To the byte, under any rule and any load balancer, whether replicas fail or not."""
    for seed in range(60):
        case = scenario(seed, TIMES[seed % 3])
        pools = [item for item in case.deployments if isinstance(item, GpuPool)]
        if not pools:
            continue
        results = []
        for rule in (None, RULES[seed % len(RULES)]):
            changes: dict[str, Any] = {"replicas": 2, "failures": failures}
            if rule is not None:
                changes["autoscaling"] = {"minimum": 2, "maximum": 2, **rule}
            if rule is not None or failures is not None:
                changes["start_up"] = {"seconds": 0.5}
            deployments = [
                GpuPool.model_validate({**item.model_dump(), **changes}) if isinstance(item, GpuPool) else item
                for item in case.deployments
            ]
            results.append(compiled.run(case.works, case.names, deployments, case.rule, tables=case.tables))
        fixed, free = results
        for name in ("status", "arm", "started_s", "first_token_s", "finished_s", "busy_s", "preemptions"):
            assert getattr(fixed, name).tobytes() == getattr(free, name).tobytes(), (seed, name)
        if failures is not None:
            assert log(fixed) == log(free)


@pytest.mark.parametrize("times", TIMES)
def test_every_request_has_one_end_and_no_token_too_many(times: Times) -> None:
    failed = drained = 0
    for seed in range(2000, 2120):
        case = with_lives(scenario(seed, times), seed, times)
        got = compiled.run(case.works, case.names, case.deployments, case.rule, tables=case.tables)
        assert set(got.status.tolist()) <= {0, 1, 2, FAILED}
        assert not np.isnan(got.finished_s).any()
        failed += int((got.status == FAILED).sum())
        if got.fleet is not None:
            drained += int((got.fleet.state == DRAINING).sum())
            for d, item in enumerate(case.deployments):
                if isinstance(item, GpuPool):
                    _, levels = got.fleet.level(d, PROVISIONED)
                    assert 0 <= levels.min() <= levels.max() <= item.most_replicas
                    # What is busy is provided.
                    assert got.busy_s[d] <= seconds(got, PROVISIONED, 0.0, 1e6, d) + 1e-9
        for index, one in enumerate(case.works):
            asked = one.reasoning_tokens + one.visible_tokens
            assert (got.generated_tokens[index] >= 0).all()
            assert (got.generated_tokens[index] <= asked).all()
            assert (got.cached_tokens[index] <= got.prefilled_tokens[index]).all()
            owner = np.repeat(
                got.status[np.repeat(np.arange(one.requests), np.diff(one.stage_start))], np.diff(one.sample_start)
            )
            if one.needed is None and case.rule is None:
                assert (got.generated_tokens[index] == asked)[owner == COMPLETED].all()
    assert failed > 100
    assert drained > 5


# ------------------------------------------------------------------------------------------------------- failures


@both
def test_a_replica_that_fails_loses_what_it_holds(engine: Engine) -> None:
    """Two in the batch with the tokens they have had, one in the queue; the other replica's go on. The iteration is lost."""
    pool = failing((0, 2.5, 1.0), replicas=2, max_num_seqs=2, load_balancer="round_robin")
    got = engine([work([0.0] * 6, [1] * 6, [[5]] * 6)], ["p"], [pool])
    assert got.status.tolist() == [FAILED, COMPLETED, FAILED, COMPLETED, FAILED, COMPLETED]
    assert got.finished_s.tolist() == [2.5, 5.0, 2.5, 5.0, 2.5, 10.0]
    assert got.generated_tokens[0].tolist() == [2, 5, 2, 5, 0, 5]
    assert got.prefilled_tokens[0].tolist() == [1, 1, 1, 1, 0, 1]
    assert got.busy_s.tolist() == [2.5 + 10.0]


@both
def test_an_iteration_that_ends_as_its_replica_fails_has_ended(engine: Engine) -> None:
    got = engine([work([0.0, 0.0], [1, 1], [[3], [5]])], ["p"], [failing((0, 3.0, 1.0), max_num_seqs=2)])
    assert got.status.tolist() == [COMPLETED, FAILED]
    assert got.finished_s.tolist() == [3.0, 3.0]
    assert got.generated_tokens[0].tolist() == [3, 3]


@both
def test_who_gives_up_as_the_replica_fails_has_failed(engine: Engine) -> None:
    """2 comes before 3; and who gave up before has timed out, though it was still in the batch."""
    pool = failing((0, 2.5, 1.0), max_num_seqs=4, timeout_s=2.5)
    got = engine([work([0.0, 0.0], [1, 1], [[5], [5]])], ["p"], [pool])
    assert got.status.tolist() == [FAILED, FAILED]
    got = engine([work([0.0, 0.0], [1, 1], [[5], [5]])], ["p"], [pool.model_copy(update={"timeout_s": 2.25})])
    assert got.finished_s.tolist() == [2.25, 2.25]
    assert FAILED not in got.status


@both
def test_without_a_replica_in_service_requests_fail_at_once(engine: Engine) -> None:
    """From the failure at 1 over the repair to 3 to the end of the start-up at 4; at that very moment they are served again."""
    pool = failing((0, 1.0, 2.0), start_s=1.0, max_num_seqs=4)
    at = [0.0, 1.0, 2.0, 3.5, 4.0, 5.0]
    got = engine([work(at, [1] * 6, [[1]] * 6)], ["p"], [pool])
    assert got.status.tolist() == [COMPLETED, FAILED, FAILED, FAILED, COMPLETED, COMPLETED]
    assert got.finished_s.tolist() == [1.0, 1.0, 2.0, 3.5, 5.0, 6.0]
    assert log(got) == [(1.0, 0, UNDER_REPAIR), (3.0, 0, STARTING), (4.0, 0, IN_SERVICE)]


@both
def test_caches_are_empty_after_a_failure(engine: Engine) -> None:
    one = replace(work([0.0, 4.0, 8.0], [64] * 3, [[1]] * 3), prefix_id=np.zeros(3, dtype=np.int64))
    found = [
        engine([one], ["p"], [failing((0, at_s, 0.5), max_num_seqs=4, prefix_caching=True)]).cached_tokens[0].tolist()
        for at_s in (6.0, 100.0)
    ]
    assert found == [[0, 48, 0], [0, 48, 48]]


@both
def test_arms_are_not_chosen_whose_pool_is_down(engine: Engine) -> None:
    """Overflow and least loaded alike: a gateway sees no healthy server behind it."""
    pools = [failing((0, 0.5, 9.0), max_num_seqs=4), steady(max_num_seqs=4)]
    works = [work([1.0, 1.5], [1, 1], [[1], [1]], deployment=[d, d]) for d in (0, 1)]
    for kind in ("overflow", "least_loaded"):
        rule = LiveRule(kind, np.array([[0, 1]] * 2), limit=2)
        got = engine(works, ["a", "b"], pools, rule)
        assert got.arm.tolist() == [1, 1]
        assert got.status.tolist() == [COMPLETED, COMPLETED]


def test_availability_is_what_the_closed_form_says() -> None:
    """Of one replica: mtbf / (mtbf + mttr + start-up); and a request in so many fails as it arrives (PASTA)."""
    pool = GpuPool.model_validate(
        {
            **steady(max_num_seqs=64, max_num_batched_tokens=64).model_dump(),
            "step_time": {**STEP, "base_s": 1e-6},
            "failures": {"mtbf_h": 1.0, "mttr_h": 0.2},
            "start_up": {"seconds": 180.0},
        }
    )
    n, hours = 60_000, 6000
    arrival_s = np.cumsum(-np.log(uniforms(3, "arrivals", n)[:, 0])) * hours * 3600 / n
    got = compiled.run([single_stage(arrival_s, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64))], ["p"], [pool])
    available = 1.0 / (1.0 + 0.2 + 0.05)
    end_s = float(arrival_s[-1])
    served = seconds(got, (IN_SERVICE,), 0.0, end_s) / end_s
    cycles = hours / 1.25
    # Of a renewal process: the share of a cycle that is in service, by the delta method.
    sd = np.sqrt(((1 - available) ** 2 * 1.0 + available**2 * 0.04) / cycles) / 1.25
    assert abs(served - available) < 4 * sd
    assert abs(float((got.status == COMPLETED).mean()) - served) < 4 * np.sqrt(
        available * (1 - available) * 1.25 / cycles
    )
    assert got.fleet is not None
    assert (got.fleet.state == UNDER_REPAIR).sum() == pytest.approx(cycles, rel=0.06)


def test_failures_do_not_depend_on_what_else_there_is() -> None:
    """More draws are the same and more; another pool or a second replica changes none; another run changes all."""
    one = steady(replicas=2, failures={"mtbf_h": 1.0, "mttr_h": 0.1}, start_up={"seconds": 1.0})
    times = FailureTimes(7, "simulate/0")
    few, many = (times.drawn(["p"], [one], count) for count in (5, 50))
    assert (few == many[:, :5]).all()
    other = times.drawn(["a", "p"], [one, one], 5)
    assert (other[2:] == few).all()
    assert len(np.unique(other)) == other.size
    assert not np.isin(FailureTimes(7, "simulate/1").drawn(["p"], [one], 5), few).any()
    seconds_ = times.drawn(["p"], [one], 20_000)[0]
    assert seconds_.mean(axis=0) == pytest.approx([3600.0, 360.0], rel=0.03)


# ---------------------------------------------------------------------------------------------------- autoscaling


@both
def test_a_schedule_by_hand(engine: Engine) -> None:
    """One replica for 10 s, three for 10 s, over and over; a start takes 2 s; idle ones are off at once."""
    steps = [{"duration_s": 10.0, "replicas": 1}, {"duration_s": 10.0, "replicas": 3}]
    pool = steady(replicas=1, autoscaling={"schedule": steps}, start_up={"seconds": 2.0}, max_num_seqs=1)
    got = engine([work([0.0, 11.0, 19.5, 33.0], [1] * 4, [[1], [4], [3], [1]])], ["p"], [pool])
    # At 10 two start. Number 0 serves from 11 to 15; of 19.5 another has room, ends at 22.5, and is not needed from 20 on.
    assert log(got) == [
        (10.0, 1, STARTING),
        (10.0, 2, STARTING),
        (12.0, 1, IN_SERVICE),
        (12.0, 2, IN_SERVICE),
        (20.0, 2, OFF),
        (20.0, 1, OFF),
        (30.0, 1, STARTING),
        (30.0, 2, STARTING),
        (32.0, 1, IN_SERVICE),
        (32.0, 2, IN_SERVICE),
    ]
    assert got.finished_s.tolist() == [1.0, 15.0, 22.5, 34.0]
    assert seconds(got, PROVISIONED, 0.0, 34.0) == 10 + 30 + 10 + 3 * 4
    assert seconds(got, (IN_SERVICE,), 0.0, 34.0) == 10 + (2 + 3 * 8) + 10 + (2 + 3 * 2)


@both
def test_one_that_drains_finishes_what_it_has_and_takes_nothing_new(engine: Engine) -> None:
    steps = [{"duration_s": 4.0, "replicas": 2}, {"duration_s": 20.0, "replicas": 1}]
    pool = steady(replicas=2, autoscaling={"schedule": steps}, start_up={"seconds": 0.0}, max_num_seqs=2)
    got = engine([work([0.0, 0.0, 0.0, 5.0], [1] * 4, [[6], [7], [9], [1]])], ["p"], [pool])
    # Replica 1 has one, replica 0 two: 1 drains, ends at 7, and the fourth must wait for a place on 0.
    assert log(got) == [(4.0, 1, DRAINING), (7.0, 1, OFF)]
    assert got.finished_s.tolist() == [6.0, 7.0, 9.0, 7.0]


@both
def test_one_that_drains_is_not_taken_back(engine: Engine) -> None:
    """Two are wanted again at 6, as both of the two places are taken: the other starts when the one that drains is off, at 9."""
    steps = [
        {"duration_s": 4.0, "replicas": 2},
        {"duration_s": 2.0, "replicas": 1},
        {"duration_s": 90.0, "replicas": 2},
    ]
    pool = steady(replicas=2, autoscaling={"schedule": steps}, start_up={"seconds": 1.0}, max_num_seqs=2)
    got = engine([work([0.0, 0.0, 0.0, 12.0], [1] * 4, [[12], [9], [12], [1]])], ["p"], [pool])
    assert log(got) == [(4.0, 1, DRAINING), (9.0, 1, OFF), (9.0, 1, STARTING), (10.0, 1, IN_SERVICE)]


@both
def test_replicas_wanted_are_those_needed_rounded_up(engine: Engine) -> None:
    """Kubernetes' rule: ceil(current * metric / target); steps of 2 at most, a cooldown of 4 s, and down after 6 s of calm."""
    rule: dict[str, Any] = {
        "target_concurrency": 2.0,
        "every_s": 2.0,
        "window_s": 2.0,
        "scale_up": {"step": 2, "cooldown_s": 4.0},
        "scale_down": {"stabilisation_s": 6.0},
    }
    got = engine([work([0.0] * 9 + [40.0], [1] * 10, [[5]] * 9 + [[1]])], ["p"], [scaled(0.5, **rule)])
    # At 2: nine on one, 5 needed, 4 at most, 3 by the step. At 4 the cooldown. At 6 nothing is left of eight, one begins: 1 needed,
    # which counts from 10 on, when the last to want more (at 4) is 6 s ago.
    assert log(got) == [
        (2.0, 1, STARTING),
        (2.0, 2, STARTING),
        (2.5, 1, IN_SERVICE),
        (2.5, 2, IN_SERVICE),
        (10.0, 2, OFF),
        (10.0, 1, OFF),
    ]


@both
def test_nothing_changes_within_the_tolerance(engine: Engine) -> None:
    """Eleven sequences for ten: a tenth more. Twelve are two tenths."""
    for sequences, starts in ((11, 0), (12, 1)):
        rule: dict[str, Any] = {"target_concurrency": 10.0, "every_s": 2.0, "max_num_seqs": 16}
        got = engine([work([0.0] * sequences, [1] * sequences, [[9]] * sequences)], ["p"], [scaled(0.5, **rule)])
        assert sum(state == STARTING for _, _, state in log(got)) == starts


@both
@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"target_utilisation": 0.5}, 2),  # 4 of 4 places
        ({"target_queue": 3.0}, 3),  # 8 wait
        ({"target_concurrency": 4.0}, 3),  # 12
        ({"target_ttft_s": 0.4}, 3),  # a second, of the four that have had their first token
    ],
)
def test_each_rule_reads_its_own_metric(engine: Engine, rule: dict[str, Any], wanted: int) -> None:
    pool = scaled(50.0, **rule, every_s=2.5, max_num_seqs=4)
    got = engine([work([0.0] * 12, [1] * 12, [[4]] * 12)], ["p"], [pool], until_s=3.0)
    assert 1 + sum(at_s == 2.5 and state == STARTING for at_s, _, state in log(got)) == wanted


@both
def test_a_failed_replica_is_replaced_while_there_is_a_place(engine: Engine) -> None:
    """At once, by one that starts; once repaired it is not needed any more. Without a place it comes back itself."""
    rule = {"schedule": [{"duration_s": 100.0, "replicas": 1}], "minimum": 1}
    for most, then in (
        (2, [(3.0, 1, STARTING), (5.0, 1, IN_SERVICE), (7.0, 0, OFF)]),
        (1, [(7.0, 0, STARTING), (9.0, 0, IN_SERVICE)]),
    ):
        failures = {"at": [{"replica": 0, "at_s": 3.0, "repair_s": 4.0}]}
        pool = steady(
            autoscaling={**rule, "maximum": most}, failures=failures, start_up={"seconds": 2.0}, max_num_seqs=4
        )
        got = engine([work([0.0, 12.0], [1, 1], [[1], [1]])], ["p"], [pool])
        assert log(got) == [(3.0, 0, UNDER_REPAIR), *then]


def test_sessions_stay_where_they_are_while_others_come_and_go() -> None:
    """And those without their own replica are spread evenly."""
    places = [0, 2, 3, 7]
    sessions = range(4000)
    home = [max(places, key=lambda one: weight_of(session, one)) for session in sessions]
    assert np.bincount(home, minlength=8)[places] == pytest.approx([1000] * 4, rel=0.1)
    without = [max([0, 2, 7], key=lambda one: weight_of(session, one)) for session in sessions]
    assert all(after == before for before, after in zip(home, without, strict=True) if before != 3)


def test_the_nth_smallest_is() -> None:
    for seed in range(200):
        n = 1 + seed % 17
        values = np.floor(uniforms(seed, "values", n)[:, 0] * (3 + seed % 9))
        for k in range(n):
            assert nth_smallest(values.copy(), n, k) == np.sort(values)[k]


# ---------------------------------------------------------------------------------------------------------- bills


def test_a_bill_by_hand(tmp_path: Path) -> None:
    """A trace, paid from its first arrival to its last answer: two replicas from 20 s to 40 s, at $0.001 a second each."""
    rows = [(0.0, 10, 5), (30.0, 10, 5), (99.9, 10, 5)]
    steps = [{"duration_s": s, "replicas": n} for s, n in ((20.0, 1), (20.0, 2), (1000.0, 1))]
    changes = {"autoscaling": {"schedule": steps}, "start_up": {"seconds": 5.0}}
    result = simulate(replayed(tmp_path, rows, **changes))
    run = result.runs[0]
    assert run.paid_s == pytest.approx(100.0)
    one = run.provisioned["pool"]
    assert one.provisioned_gpu_hours * 3600 == pytest.approx(120.0)
    assert one.busy_gpu_hours * 3600 == pytest.approx(3 * 5 * 0.02)
    assert one.replicas == pytest.approx(1.2)
    assert one.most_replicas == 2
    assert run.cost_usd.sum() == pytest.approx(0.12)
    tens = result.over_time(10.0)
    pools = result.over_time(10.0, by="deployment")
    assert tens["usd"].to_list() == pytest.approx([0.01, 0.01, 0.02, 0.02, *[0.01] * 6])
    assert pools["replicas"].to_list() == pytest.approx([1, 1, 2, 2, *[1] * 6])
    assert pools["utilisation"].to_list() == pytest.approx([0.01, 0, 0, 0.005, 0, 0, 0, 0, 0, 0.01])
    assert pools["provisioned_gpu_hours"].sum() == pytest.approx(one.provisioned_gpu_hours)


RULED = {"minimum": 1, "maximum": 5, "target_concurrency": 3, "every_s": 10, "scale_down": {"stabilisation_s": 60}}


def on_a_day(requests: int = 3000, **changes: Any) -> dict[str, Any]:
    """Three quarters of an hour, the second of which needs more replicas; starts take a minute."""
    steps = [{"duration_s": 900, "rate_per_s": rate} for rate in (0.5, 3.0, 0.5)]
    step = {"base_s": 0.02, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8}
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 3.6, "max_num_seqs": 4, "step_time": step}
    raw = plain(deployments={"d": {**pool, "autoscaling": RULED, "start_up": {"seconds": 60.0}, **changes}})
    raw["workload"] |= {"arrivals": {"process": "piecewise", "steps": steps}, "requests": requests}
    return copy.deepcopy(raw)


@pytest.mark.parametrize("failures", [None, {"mtbf_h": 0.3, "mttr_h": 0.05}])
def test_requests_bills_add_up_to_what_was_provided(failures: dict[str, float] | None) -> None:
    """Relations 5 and 6, and of intervals too; whatever they are."""
    changes: dict[str, Any] = {} if failures is None else {"failures": failures}
    result = simulate(scenario_from_dict(on_a_day(**changes)))
    summary = result.summary()
    for run in result.runs:
        one = run.provisioned["d"]
        assert 1 <= one.replicas < one.most_replicas <= 5
        assert run.cost_usd.sum() == pytest.approx(3.6 * one.provisioned_gpu_hours, rel=1e-9)
        assert one.provisioned_gpu_hours == pytest.approx(
            seconds(run.result, PROVISIONED, run.paid_from_s, run.paid_from_s + run.paid_s) / 3600, rel=1e-9
        )
    hours = float(np.mean([run.provisioned["d"].provisioned_gpu_hours for run in result.runs]))
    (line,) = replicas_lines(summary)
    assert re.match(r"d: [\d.]+ GPU-hours provided, [\d.]+ busy; [\d.]+ replicas in the mean, [2-5] at most", line)
    assert summary.provisioned["d"].provisioned_gpu_hours == pytest.approx(hours)
    for interval_s in (60.0, 900.0, 1e6):
        pools = result.over_time(interval_s, by="deployment")
        axes = 8 if len(pools) > 1 else 6  # how many there are, and how busy, where that changes
        assert len(result.plot_over_time(interval_s).axes) == axes
        assert pools["provisioned_gpu_hours"].sum() == pytest.approx(hours, rel=1e-9)
        assert result.over_time(interval_s)["usd"].sum() == pytest.approx(3.6 * hours, rel=1e-9)
        assert pools["utilisation"].max() <= 1 + 1e-9  # type: ignore[operator]
        assert pools["busy_s"].sum() / 3600 == pytest.approx(summary.provisioned["d"].busy_gpu_hours, rel=1e-9)


def test_users_who_fail_at_once_do_not_make_the_bill_small() -> None:
    """Ten who ask again and again while the only replica is repaired, which is most of the middle half of the requests: the pool is
    paid for as long as it took all of them."""
    raw = on_a_day(2000, failures={"at": [{"replica": 0, "at_s": 200.0, "repair_s": 50.0}]}, start_up={"seconds": 10.0})
    del raw["deployments"]["d"]["autoscaling"]
    raw["workload"]["arrivals"] = {"process": "closed_loop", "users": 10, "think_s": 0.5}
    for run in simulate(scenario_from_dict(raw)).runs:
        failed = run.result.status == FAILED
        assert failed.mean() > 0.4
        lasted_s = float(run.result.finished_s.max() - run.result.arrival_s.min())
        assert run.cost_usd.sum() == pytest.approx(0.001 * lasted_s, rel=1e-6)


def test_autoscaling_between_n_and_n_bills_n_replicas() -> None:
    """To the last digit."""
    own = {"minimum": 3, "maximum": 3, "target_concurrency": 3}
    scaled_, fixed = on_a_day(replicas=3, autoscaling=own), on_a_day(replicas=3)
    del fixed["deployments"]["d"]["autoscaling"], fixed["deployments"]["d"]["start_up"]
    one, other = (simulate(scenario_from_dict(raw)).runs[0] for raw in (scaled_, fixed))
    assert one.cost_usd.tobytes() == other.cost_usd.tobytes()
    assert one.provisioned == other.provisioned


def test_requests_that_failed_are_not_answered() -> None:
    """They count as unserved, and not as quick ones; their tokens stay."""
    raw = on_a_day(failures={"at": [{"replica": 0, "at_s": 100.0, "repair_s": 400.0}]}, replicas=1)
    raw["deployments"]["d"] |= {"autoscaling": {"minimum": 1, "maximum": 1, "target_queue": 1}}
    raw["workload"]["requests"] = 400
    result = simulate(scenario_from_dict(raw))
    records = result.records
    gone = records["status"] == "failed"
    assert 0.2 < gone.mean() < 0.9  # type: ignore[operator]
    summary = result.summary()
    assert summary.unserved_rate.value == pytest.approx(gone.mean())
    served = np.sort(records.filter(records["status"] == "completed")["latency_s"].to_numpy())
    assert summary.latency_s["p50"].value == served[int(np.ceil(len(served) / 2)) - 1]


# ------------------------------------------------------------------------------------------------------- verdicts


def test_verdicts_of_pools_that_change() -> None:
    """Not overloaded while it may still grow, or while its replicas are repaired; overloaded where the most is too few."""

    def verdict(requests: int = 3000, **changes: Any) -> str:
        return simulate(scenario_from_dict(on_a_day(requests, **changes))).summary().verdict

    slow = {"start_up": {"seconds": 800.0}}
    assert verdict() in ("stable", "backlogged")
    assert verdict(2500, **slow) == "backlogged"
    assert verdict(2500, autoscaling={**RULED, "maximum": 1}, **slow) == "overloaded"
    broken = {"failures": {"at": [{"replica": r, "at_s": 1500.0, "repair_s": 1e5} for r in range(5)]}}
    assert verdict(2500, **broken) == "backlogged"


# ------------------------------------------------------------------------------------------------------- mistakes

DAY = [{"at": "00:00", "replicas": 1}, {"at": "08:00", "replicas": 3}]
MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"autoscaling": {"minimum": 1, "maximum": 2}},
        "autoscaling: .* exactly one of schedule, .* to be given, not none",
    ),
    (
        {"autoscaling": {"minimum": 1, "maximum": 2, "target_queue": 1, "schedule": DAY}},
        "not schedule and target_queue",
    ),
    ({"autoscaling": {"target_queue": 1}}, "minimum and maximum to be given"),
    ({"autoscaling": {"minimum": 3, "maximum": 2, "target_queue": 1}}, "minimum 3 must be at most maximum 2"),
    ({"autoscaling": {**RULED, "minimum": 2}}, "replicas 1 must lie in minimum 2 to maximum 5"),
    ({"autoscaling": {**RULED, "target_concurrency": 0}}, r"target_concurrency: got 0; expected .*greater than 0"),
    ({"autoscaling": {**RULED, "target_utilisation": 1.5}}, "target_utilisation: got 1.5"),
    ({"autoscaling": {**RULED, "targt_queue": 1}}, "got 'targt_queue'; expected .*target_queue"),
    ({"autoscaling": {**RULED, "percentile": 90}}, "percentile to stand beside target_ttft_s"),
    ({"autoscaling": {"schedule": DAY, "every_s": 5}}, "no every_s beside schedule"),
    ({"autoscaling": {"schedule": DAY[1:]}, "replicas": 3}, "leaves a gap from 00:00 to 08:00"),
    ({"autoscaling": {"schedule": [*DAY, DAY[1]]}}, "steps of schedule overlap: 08:00 comes after 08:00"),
    (
        {"autoscaling": {"schedule": [DAY[0], {"at": 600, "replicas": 3}]}},
        'at: got 600; expected .*in quotes, from "00:00"',
    ),
    ({"autoscaling": {"schedule": [DAY[0], {"at": "25:00", "replicas": 3}]}}, 'at: got .25:00.; expected .*"23:59"'),
    ({"autoscaling": {"schedule": [DAY[0], {"duration_s": 5, "replicas": 3}]}}, "all alike"),
    ({"autoscaling": {"schedule": [{"replicas": 3}]}}, "either at, a time of the day, or duration_s"),
    ({"autoscaling": {"schedule": DAY}, "replicas": 3}, "replicas 3 must be those of the schedule's first step, 1"),
    ({"autoscaling": {"schedule": DAY, "maximum": 2}}, "replicas 3 of schedule must lie in 1 to 2"),
    (
        {"autoscaling": {"schedule": DAY}, "start_up": {"seconds": 40_000}},
        "start_up takes 40000 s and must be at most the shortest",
    ),
    ({"start_up": {"seconds": 90_000}}, "start_up takes 90000 s and must be at most a day"),
    ({"start_up": {"seconds": 90, "boot_s": 5}}, "seconds and boot_s to exclude each other"),
    ({"start_up": {"boot_s": 5}}, "seconds, or boot_s and load_gb_per_s, to be given"),
    (
        {"start_up": {"boot_s": 5, "load_gb_per_s": 2}},
        "seconds, or weights_gb, of start_up to be given: step_time says nothing",
    ),
    ({"start_up": None}, "start_up to be given"),
    ({"autoscaling": None}, "no start_up without autoscaling or failures"),
    ({"failures": {}}, "at, or mtbf_h and mttr_h, to be given"),
    ({"failures": {"mtbf_h": 2}}, "mtbf_h and mttr_h to be given together"),
    ({"failures": {"mtbf_h": 0, "mttr_h": 1}}, "mtbf_h: got 0"),
    (
        {"failures": {"at": [{"replica": 5, "at_s": 1, "repair_s": 1}]}},
        "replica 5 of failures must be one of the pool's 5, from 0",
    ),
    (
        {"failures": {"at": [{"replica": 0, "at_s": 9, "repair_s": 5}, {"replica": 0, "at_s": 12, "repair_s": 5}]}},
        "replica 0 fails at 12 s, and is under repair until 14 s",
    ),
]


@pytest.mark.parametrize(("changes", "said"), MISTAKES)
def test_mistakes_get_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        scenario_from_dict(on_a_day(**changes))
    assert "\n" not in str(error.value)
    assert "deployments.d" in str(error.value)


def test_a_run_of_a_part_of_a_schedule_says_so() -> None:
    raw = on_a_day(3600, autoscaling={"schedule": [{**DAY[0], "replicas": 4}, DAY[1]]}, replicas=4)
    assert [note for note in simulate(scenario_from_dict(raw)).summary().notes if "schedule" in note] == [
        "the schedule of d starts over after 24 h, and a run covers 0.031 times that: what is said of a day is said of those hours"
    ]
    # Of traffic and of the schedule one cycle, 2700 s.
    raw = on_a_day(3600, autoscaling={"schedule": [{"duration_s": 1350, "replicas": n} for n in (4, 5)]}, replicas=4)
    assert "schedule" not in "".join(simulate(scenario_from_dict(raw)).summary().notes)


def test_runs_that_are_too_short_for_failures_say_so() -> None:
    for mtbf_h, said in ((0.01, 0), (200.0, 1)):
        raw = on_a_day(3600, failures={"mtbf_h": mtbf_h, "mttr_h": 0.001}, replicas=3)
        notes = simulate(scenario_from_dict(raw)).summary().notes
        assert sum(note.startswith("a replica of d fails every") for note in notes) == said


def test_a_search_over_replicas_of_an_autoscaled_pool_is_refused() -> None:
    raw = on_a_day() | {"search": {"replicas": {"d": [1, 2]}}}
    with pytest.raises(InputError, match=r"search.replicas: got 'd'; expected a pool of fixed size"):
        scenario_from_dict(raw)


def test_a_plan_counts_on_the_replicas_that_there_may_be() -> None:
    """One at the start cannot carry the load, which would leave an endpoint of many times the price; how many there are is left to
    autoscaling."""
    raw = on_a_day(600) | {"targets": {"minimize": "cost", "latency_p95_s": 1000, "timeout_rate": 0.5}}
    del raw["policy"]
    raw["workload"]["arrivals"] = {"process": "poisson", "rate_per_s": 3.0}
    raw["deployments"]["e"] = api(price={"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 50.0})
    raw["arms"]["b"] = {"deployment": "e"}
    scenario_ = scenario_from_dict(raw)
    assert allowed_replicas(load_model(scenario_), "d") == (5,)
    plan = optimize(scenario_)
    assert plan.status == "met"
    assert plan.predicted.per_arm["a"].share > 0.9
    pool = plan.scenario.deployments["d"]
    assert isinstance(pool, GpuPool)
    assert pool == scenario_.deployments["d"]
    assert 1 < plan.predicted.provisioned["d"].replicas < 5


def test_more_looks_than_a_run_can_have_are_refused() -> None:
    pool = scaled(target_queue=1.0, every_s=0.01)
    one = work([0.0, 1e9], [1, 1], [[1], [1]])
    for engine in (reference.run, compiled.run):
        with pytest.raises(InputError, match="at most 20,000,000 looks"):
            engine([one], ["p"], [pool])


def test_a_start_up_loads_the_weights_that_the_pool_names() -> None:
    """70 billion parameters in 8 bits, and embeddings and head in 16."""
    pool = GpuPool.model_validate(
        {
            **steady().model_dump(exclude={"step_time"}),
            "step_time": {
                "model": "meta-llama/Llama-3.1-70B-Instruct",
                "gpu": "H100",
                "precision": "FP8",
                "tensor_parallel": 4,
            },
            "autoscaling": RULED,
            "start_up": {"boot_s": 60.0, "load_gb_per_s": 2.0},
        }
    )
    start_up = with_weights(pool, ".").start_up
    assert start_up is not None
    assert start_up.weights_gb == pytest.approx(68.5 + 2 * 2 * 128_256 * 8192 / 1e9, rel=0.01)
    assert start_up.takes_s == pytest.approx(60 + start_up.weights_gb / 2)  # type: ignore[operator]


# --------------------------------------------------------------------------------------------- docs/replicas.md

PAGE = (Path(__file__).parents[1] / "docs" / "replicas.md").read_text(encoding="utf-8")


def test_every_example_of_the_page_runs() -> None:
    examples = re.findall(r"^```yaml\n(deployments:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    for text in examples:
        raw = on_a_day(300)
        del raw["deployments"]["d"]["autoscaling"], raw["deployments"]["d"]["start_up"]
        raw["deployments"]["d"] |= yaml.safe_load(text)["deployments"]["llama"]
        run = simulate(scenario_from_dict(raw), replications=1).runs[0]
        assert run.result.fleet is not None
        assert run.provisioned["d"].provisioned_gpu_hours > 0


def test_the_page_explains_every_key_and_no_other() -> None:
    said = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    fields = {name for kind in (Autoscaling, ScaleRule, StartUp, Failures) for name in kind.model_fields}
    assert said == fields
