"""Errors, outages, slow periods, retries and fallbacks: closed forms, by hand, and what must add up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import ttc_sim as ttc
from tests.conftest import ROOT
from tests.random_scenarios import TIMES, Times, failing_scenario
from tests.test_optimum import MISTRAL, asking, small
from tests.test_targets import plain
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, FAILED, IN_FLIGHT, REJECTED, TIMED_OUT, Work, single_stage
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.scenario import GpuPool, LinearStepTime, scenario_from_dict
from ttc_sim.simulation import offering
from ttc_sim.simulation.result import Result, simulate

PROMPT, OUTPUT = 100, 25
IN_USD, OUT_USD = 1e-6, 5e-6


def api(**more: Any) -> dict[str, Any]:
    """Calls of 4 s: the first of 25 tokens after 1 s, and one every 0.125 s."""
    price = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0}
    times = {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.125}}
    return {"kind": "api", "price": price, **times, **more}


def one_a_second(requests: int = 20, **changes: Any) -> dict[str, Any]:
    lengths = {"prompt_tokens": PROMPT, "output_tokens": OUTPUT}
    arrivals = {"process": "even", "rate_per_s": 1.0}
    workload = {"arrivals": arrivals, "requests": requests, "lengths": lengths}
    return plain(workload=workload, replications=1, **changes)


def run(raw: dict[str, Any], **given: Any) -> Result:
    return simulate(scenario_from_dict(raw), **given)


def records(raw: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {name: np.array(column.to_list()) for name, column in run(raw, **given).records.to_dict().items()}


# ----------------------------------------------------------------------------------------------------- error rates


@pytest.mark.parametrize(("after", "had"), [("at_once", 0), ("first_token", PROMPT + 1), ("midway", PROMPT + 9)])
def test_so_many_fail_and_are_asked_again_as_the_closed_form_says(after: str, had: int) -> None:
    p, k, n = 0.3, 2, 20_000
    errors, retry = {"rate": p, "after": after}, {"retries": k, "base_s": 0.01}
    raw, output = one_a_second(n, deployments={"d": api(errors=errors, retry=retry)}), OUTPUT + 1
    raw["workload"]["lengths"]["output_tokens"] = output  # whose middle lies between two tokens
    result = run(raw)
    got, attempts = result.runs[0], result.runs[0].result.attempts
    assert attempts is not None
    failed = got.result.status == FAILED
    for found, expected in (
        (failed, p ** (k + 1)),
        (attempts.errors, sum(p**j for j in range(1, k + 2))),
        (attempts.error_retries, sum(p**j for j in range(1, k + 1))),
    ):
        assert found.mean() == pytest.approx(expected, abs=5 * found.std() / np.sqrt(n))
    # What a call that breaks has had is known to the token: midway is 2.06 s after it began, with 9 tokens.
    assert (got.lost_tokens == attempts.errors * had).all()
    answered = ~failed * (PROMPT + output)
    assert (got.prompt_tokens + got.reasoning_tokens + got.visible_tokens == answered + got.lost_tokens).all()
    lost_usd = attempts.errors * (PROMPT * IN_USD + (had - PROMPT) * OUT_USD if had else 0.0)
    np.testing.assert_allclose(got.lost_usd, lost_usd, rtol=1e-12)
    np.testing.assert_allclose(
        got.cost_usd, ~failed * (PROMPT * IN_USD + output * OUT_USD) + lost_usd, rtol=1e-12, atol=1e-18
    )
    summary = result.summary()
    assert summary.attempts is not None
    assert summary.attempts.lost_usd.value == pytest.approx(float(lost_usd.mean()))
    assert summary.failed_rate.value == summary.unserved_rate.value == failed.mean()
    # The first token that counts is that of the call that was answered: 1 s after its beginning, 3.125 s before its end.
    np.testing.assert_allclose(got.latency_s[~failed] - got.ttft_s[~failed], 3.125)
    assert np.isnan(got.ttft_s[failed]).all()


def test_errors_of_stages_one_after_another_are_independent() -> None:
    """Of two stages, so many end both that it is the product."""
    raw = yaml.safe_load((ROOT / "scenarios" / "reasoning-gateway.yaml").read_text())
    name = next(iter(raw["arms"]))
    arm = {**raw["arms"][name], "strategy": "BestOfN(n=2, auroc=0.8, verifier='d')"}
    profile = {key: arm[key] for key in ("profile", "strategy")}
    scenario = {
        "name": "stages",
        "replications": 1,
        "workload": {**raw["workload"], "requests": 6000, "arrivals": {"process": "poisson", "rate_per_s": 1.0}},
        "deployments": {"d": api(errors={"rate": 0.4}, retry={"retries": 0})},
        "arms": {"a": {**profile, "deployment": "d"}},
        "policy": "Always('a')",
    }
    got = run(scenario).runs[0].result
    done = (got.status == COMPLETED).mean()
    assert done == pytest.approx(0.36, abs=0.03)


def test_a_fallback_on_the_same_endpoint_breaks_independently() -> None:
    errors = {"rate": 0.5, "after": "at_once"}
    raw = one_a_second(
        8000,
        deployments={"d": api(errors=errors, retry={"retries": 0})},
        arms={"a": {"deployment": "d", "fallback": "b"}, "b": {"deployment": "d"}},
    )
    got = run(raw).runs[0].result
    assert (got.status == FAILED).mean() == pytest.approx(0.25, abs=0.025)


# ------------------------------------------------------------------------------------------- outages, slow periods


def test_an_outage_by_hand() -> None:
    """Calls in progress break as it begins; later ones get an error at once, and those after it are answered."""
    errors = {"outages": [{"from_s": 10.5, "duration_s": 3.0}]}
    got = records(one_a_second(deployments={"d": api(errors=errors, retry={"retries": 0})}))
    at_s, failed = got["arrival_s"], got["status"] == "failed"
    in_progress = (at_s + 4.0 > 10.5) & (at_s < 10.5)
    down = (at_s >= 10.5) & (at_s < 13.5)
    assert in_progress.sum() == 4
    assert (failed == in_progress | down).all()
    assert (got["finished_s"][in_progress] == 10.5).all()
    assert (got["finished_s"][down] == at_s[down]).all()
    assert (got["outage_errors"] == failed).all()
    # Of an answer so much had come; a call that found the endpoint down had nothing.
    passed_s = 10.5 - at_s[in_progress]
    had = np.where(passed_s < 1, 0, 1 + np.floor((passed_s - 1) / 0.125))
    assert (got["visible_tokens"][in_progress] == had).all()
    assert (got["prompt_tokens"] == np.where(down, 0, PROMPT)).all()
    assert (got["lost_tokens"] == np.where(failed, got["prompt_tokens"] + got["visible_tokens"], 0)).all()


def test_an_answer_that_comes_as_the_endpoint_goes_down_has_come() -> None:
    errors = {"outages": [{"from_s": 5.0, "duration_s": 1.0}]}
    got = records(one_a_second(8, deployments={"d": api(errors=errors, retry={"retries": 0})}))
    status = dict(zip(got["arrival_s"].tolist(), got["status"].tolist(), strict=True))
    assert status[1.0] == "completed"  # at 5.0
    assert {status[2.0], status[3.0], status[4.0], status[5.0]} == {"failed"}
    assert status[6.0] == "completed"


def test_a_client_that_asks_again_gets_over_an_outage() -> None:
    errors = {"outages": [{"from_s": 5.25, "duration_s": 2.0}]}
    retry = {"retries": 8, "base_s": 0.5, "max_s": 0.5}
    got = records(one_a_second(deployments={"d": api(errors=errors, retry=retry)}))
    assert (got["status"] == "completed").all()
    hit = got["errors"] > 0
    assert hit.any()
    assert (got["finished_s"][hit] >= 7.25 + 4.0).all()
    assert (got["error_retries"] == got["errors"]).all()


def test_a_slow_period_by_hand() -> None:
    """Of calls that are accepted in it both times are longer."""
    errors = {"slow": [{"from_s": 3.0, "until_s": 5.0, "factor": 2.5}]}
    got = records(one_a_second(deployments={"d": api(errors=errors)}))
    slow = (got["arrival_s"] >= 3) & (got["arrival_s"] < 5)
    assert slow.sum() == 2
    np.testing.assert_allclose(got["latency_s"], np.where(slow, 10.0, 4.0))
    np.testing.assert_allclose(got["ttft_s"], np.where(slow, 2.5, 1.0))


def drawn(requests: int = 3000) -> dict[str, Any]:
    errors = {"mtbf_h": 0.02, "mttr_h": 0.005}
    return one_a_second(requests, deployments={"d": api(errors=errors, retry={"retries": 0})})


def test_outages_are_drawn_for_as_long_as_the_run_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    few = run(drawn()).records
    monkeypatch.setattr(offering, "_LEAST_OUTAGES", 4096)
    assert few.equals(run(drawn()).records)
    # 33 times down in 3,000 s, for 18 s each: a fifth of the time.
    down = [records({**drawn(), "seed": seed})["outage_errors"].mean() for seed in range(1, 9)]
    assert float(np.mean(down)) == pytest.approx(0.2 + 4 / 90, abs=0.05)  # and who was in progress


def test_more_requests_meet_the_same_outages_first() -> None:
    short, long = records(drawn(500)), records(drawn(3000))
    assert (short["outage_errors"] == long["outage_errors"][:500]).all()


# ------------------------------------------------------------------------------------------------ timeouts, retries


@pytest.mark.parametrize(("on_timeout", "lost"), [("stop", 6), ("finish", OUTPUT)])
def test_the_bill_of_an_attempt_that_was_given_up_and_asked_again_by_hand(on_timeout: str, lost: int) -> None:
    """Three times as slow in the first 2 s: 5 s after it was sent, the first call has 6 of its tokens."""
    slow = {"slow": [{"from_s": 0.0, "until_s": 2.0, "factor": 3.0}]}
    retry = {"retries": 1, "base_s": 1.0, "on": ["timeout"]}
    item = api(errors=slow, retry=retry, timeout_s=5.0, on_timeout=on_timeout)
    got = records(one_a_second(3, deployments={"d": item}))
    late = got["arrival_s"] < 2
    assert late.sum() == 1
    assert (got["status"] == "completed").all()
    assert (got["timeout_retries"] == late).all()
    assert (got["lost_tokens"] == np.where(late, PROMPT + lost, 0)).all()
    assert (got["visible_tokens"] == OUTPUT + np.where(late, lost, 0)).all()
    usd = PROMPT * IN_USD + OUTPUT * OUT_USD + np.where(late, PROMPT * IN_USD + lost * OUT_USD, 0.0)
    np.testing.assert_allclose(got["cost_usd"], usd, rtol=1e-12)
    # After 5 s and a wait of 0.5 to 1.5 s comes the call that is answered, with a first token of its own.
    wait_s = got["latency_s"][late] - 5.0 - 4.0
    assert 0.5 < wait_s[0] < 1.5
    np.testing.assert_allclose(got["ttft_s"][late], 5.0 + wait_s + 1.0)


def work_of(arrival_s: list[float], output: int, retries: int) -> Work:
    """Requests of 16 prompt tokens, whose clients wait exactly the backoff."""
    n = len(arrival_s)
    work = single_stage(np.array(arrival_s), np.full(n, 16), np.full(n, output))
    return Work(**{**vars(work), "backoff": np.full((n, max(retries, 1)), 0.5)})


def seconds_pool(**more: Any) -> GpuPool:
    """One second an iteration."""
    step = LinearStepTime(base_s=1.0, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step, **more}
    return GpuPool.model_validate(given)


@pytest.mark.parametrize("engine", [reference, compiled])
def test_a_pool_works_to_the_end_of_the_iteration_for_who_gave_up(engine: Any) -> None:
    """Sent at 0, given up at 3.5, dropped at 4; sent again at 5.5, given up at 9, dropped at 9.5: 4 tokens each time."""
    pool = seconds_pool(timeout_s=3.5, retry={"retries": 1, "base_s": 2.0, "on": ["timeout"]})
    got = engine.run([work_of([0.0], 10, 1)], ["p"], [pool])
    assert (got.status[0], got.finished_s[0], got.first_token_s[0]) == (TIMED_OUT, 9.0, 6.5)
    assert (got.generated_tokens[0][0], got.prefilled_tokens[0][0]) == (4, 16)
    assert got.attempts is not None
    assert (got.attempts.lost_generated[0][0], got.attempts.lost_prefilled[0][0]) == (4, 16)
    assert got.attempts.timeout_retries[0] == got.attempts.lost_attempts[0][0] == 1
    assert got.busy_s[0] == 8.0


@pytest.mark.parametrize("engine", [reference, compiled])
def test_a_deadline_ends_all_of_it(engine: Any) -> None:
    """Attempts at 0, 4 and 8 have 3.5 s each: the last is cut at the deadline, and a wait that leads past it is, too."""
    retry = {"retries": 5, "base_s": 0.5, "max_s": 0.5, "on": ["timeout"]}
    for deadline_s, attempts in ((9.0, 2), (7.75, 1)):
        pool = seconds_pool(timeout_s=3.5, deadline_s=deadline_s, retry=retry)
        got = engine.run([work_of([0.0], 10, 5)], ["p"], [pool])
        assert (got.status[0], got.finished_s[0]) == (TIMED_OUT, deadline_s)
        assert got.attempts.timeout_retries[0] == attempts


@pytest.mark.parametrize("engine", [reference, compiled])
def test_who_found_the_queue_full_is_sent_again(engine: Any) -> None:
    """One runs, none may wait: the second comes again at 1.5 and 3.5 and finds room at 4.5, one second before its third."""
    pool = seconds_pool(max_num_seqs=1, queue_limit=0, retry={"retries": 3, "base_s": 1.0, "max_s": 2.0})
    got = engine.run([work_of([0.0, 0.5], 4, 3)], ["p"], [pool])
    assert got.status.tolist() == [COMPLETED, COMPLETED]
    assert got.retries.tolist() == [0, 3]
    assert got.finished_s.tolist() == [4.0, 9.5]
    without = engine.run([work_of([0.0, 0.5], 4, 3)], ["p"], [pool.model_copy(update={"retry": None})])
    assert without.status.tolist() == [COMPLETED, REJECTED]


def test_what_never_fits_is_not_sent_again() -> None:
    pool = seconds_pool(kv_cache_tokens=16, retry={"retries": 3})
    got = compiled.run([work_of([0.0], 40, 3)], ["p"], [pool])
    assert (got.status[0], got.retries[0], got.finished_s[0]) == (REJECTED, 0, 0.0)


def storm(retries: int, base_s: float = 0.1) -> float:
    """Share answered, long after a burst that is over, of a pool at three quarters of its capacity.

    Eight at a time take a second: it serves 8 a second, and 6 come. Who waits as long as his timeout has no time left to be served.
    """
    gaps = np.random.default_rng(0).exponential(1 / 6.0, 3600)
    arrival_s = np.sort(np.concatenate([np.cumsum(gaps), 100 + np.arange(300) / 60.0]))
    work = work_of(arrival_s.tolist(), 20, retries)
    step = LinearStepTime(base_s=0.05, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
    retry = {"retries": retries, "base_s": base_s, "max_s": 60.0, "on": ["timeout"]} if retries else None
    pool = seconds_pool(step_time=step, max_num_seqs=8, timeout_s=4.0, retry=retry)
    got = compiled.run([work], ["p"], [pool])
    late = arrival_s > 350
    return float((got.status[late] == COMPLETED).mean())


def test_a_retry_storm_outlasts_what_set_it_off() -> None:
    """A metastable failure: the same burst, over in 5 s, is gone in a minute or stays for good, by what clients do."""
    assert storm(0) > 0.99
    assert storm(1) > 0.99
    assert storm(2) < 0.1
    assert storm(2, base_s=60.0) > 0.99  # they wait for long enough


# ---------------------------------------------------------------------------------------------------------- fallbacks


def problems(rate: float, **changes: Any) -> dict[str, Any]:
    """A model at an endpoint that breaks, and another one behind it."""
    sources = {"easy": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy"}}
    errors = {"rate": rate, "after": "midway"} if rate else None
    return {
        "name": "behind",
        "replications": 2,
        "workload": {"arrivals": {"process": "poisson", "rate_per_s": 2.0}, "requests": 1500, "sources": sources},
        "deployments": {"x": api(errors=errors, retry={"retries": 0}), "y": api()},
        "arms": {
            "first": {"profile": MISTRAL, "deployment": "x", "fallback": "second"},
            "second": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "y"},
        },
        "policy": "Always('first')",
        **changes,
    }


def test_what_falls_back_is_answered_as_the_fallback_answers() -> None:
    mixed, first, second = (run(problems(0.4)), run(problems(0.0)), run(problems(0.0), policy="Always('second')"))
    for k, got in enumerate(mixed.runs):
        fell = got.answered_by == 1
        assert 0.3 < fell.mean() < 0.5
        assert (got.arm == 0).all()
        assert (got.result.status == COMPLETED).all()
        one, other = first.runs[k], second.runs[k]
        assert (got.answered_correctly == np.where(fell, other.answered_correctly, one.answered_correctly)).all()
        # Its tokens and bill are the fallback's, and what the first had come to by then.
        kept = np.where(fell, other.visible_tokens + other.reasoning_tokens, one.visible_tokens + one.reasoning_tokens)
        all_tokens = got.prompt_tokens + got.reasoning_tokens + got.visible_tokens
        prompt = np.where(fell, other.prompt_tokens, one.prompt_tokens)
        assert (all_tokens - got.lost_tokens == kept + prompt).all()
        np.testing.assert_allclose(
            got.cost_usd - got.lost_usd, np.where(fell, other.cost_usd, one.cost_usd), rtol=1e-9, atol=1e-15
        )
        assert (got.lost_usd[fell] > 0).all()
        assert not got.lost_usd[~fell].any()
        # It takes the request over at the moment at which the first broke.
        assert (got.latency_s[fell] > other.latency_s[fell] - 1e-9).all()


def test_all_that_is_said_of_fallbacks_adds_up() -> None:
    result = run(problems(0.4))
    summary, table = result.summary(), result.records
    part = summary.per_arm
    assert list(part) == ["first", "second"]
    share = sum(one.share for one in part.values())
    cost = sum(one.share * one.cost_usd_per_request.value for one in part.values())
    tokens = sum(one.share * one.tokens_per_request for one in part.values())
    assert share == pytest.approx(1.0)
    assert cost == pytest.approx(summary.cost_usd_per_request.value)
    assert tokens == pytest.approx(summary.tokens_per_request["output"].value)
    answered = sum(one.answered_share or 0.0 for one in part.values())
    assert answered == pytest.approx((table["status"] == "completed").mean())
    fell = sum(one.share * (one.fallback_share or 0.0) for one in part.values())
    assert fell == pytest.approx((table["answered_by"] == "second").mean())
    assert summary.attempts is not None
    assert summary.attempts.fallbacks.value == pytest.approx(fell)
    # Not what was expected of the first arm, nor of the second: what became of the requests.
    assert summary.accuracy is not None
    assert summary.accuracy.value == pytest.approx(table["correct"].mean(), abs=0.02)
    # Over time as well, whether recorded while running or run again.
    for interval_s in (100.0, 37.0):
        hours = simulate(result.model.scenario, interval_s=100.0).over_time(interval_s)
        for name in ("errors", "fallbacks", "lost_tokens", "lost_usd"):
            column = {"lost_usd": "lost_cost_usd"}.get(name, name)
            assert hours[name].sum() == pytest.approx(table[column].sum() / 2)
        assert hours["usd"].sum() == pytest.approx(table["cost_usd"].sum() / 2)
    text = json.dumps(summary.as_json())
    assert '"answered_share"' in text
    assert '"failed_rate"' in text


def test_where_nothing_can_go_wrong_nothing_is_said_of_it() -> None:
    result = run(one_a_second(deployments={"d": api()}))
    assert result.summary().attempts is None
    assert not {"attempts", "failed_rate"} & set(result.summary().as_json())
    assert "errors" not in result.records.columns
    assert "failed" not in result.over_time(5.0).columns


def test_a_request_falls_back_after_a_rejection_and_a_timeout_too_and_has_its_time_anew() -> None:
    """A second at the first arm, then all of the second one's time; a deadline ends both."""
    raw = one_a_second(
        4,
        deployments={"slow": api(timeout_s=1.5, retry={"retries": 0}), "d": api(timeout_s=4.5)},
        arms={"a": {"deployment": "slow", "fallback": "b"}, "b": {"deployment": "d"}},
    )
    got = records(raw)
    assert (got["status"] == "completed").all()
    assert (got["answered_by"] == "b").all()
    np.testing.assert_allclose(got["latency_s"], 5.5)
    np.testing.assert_allclose(got["ttft_s"], 2.5)
    raw["deployments"]["slow"] |= {"deadline_s": 1.5}  # it is over with the first arm
    assert set(records(raw)["status"]) == {"timed_out"}
    raw["deployments"]["slow"] = api(requests_per_minute=0.5, retry={"retries": 0})
    assert (records(raw)["latency_s"] == 4.0).all()  # rejected at once


def test_a_pool_that_stands_by_as_a_fallback_is_paid_for() -> None:
    pool = {**seconds_pool().model_dump(exclude_none=True), "usd_per_replica_hour": 3600.0}
    raw = one_a_second(
        100,
        deployments={"d": api(), "p": pool},
        arms={"a": {"deployment": "d", "fallback": "b"}, "b": {"deployment": "p"}},
    )
    summary = run(raw).summary()
    assert summary.cost_usd_per_request.value == pytest.approx(1.0 + PROMPT * IN_USD + OUTPUT * OUT_USD)
    assert summary.replicas == {"p": 1}


def test_verdicts_are_about_the_arm_that_is_overloaded() -> None:
    """Before and behind a fallback; of an endpoint that breaks nothing is said of its load."""
    slow_pool = {**seconds_pool(max_num_seqs=4, queue_limit=8).model_dump(exclude_none=True)}
    roomy = {**slow_pool, "max_num_seqs": 256, "queue_limit": 256}
    arms = {"a": {"deployment": "x", "fallback": "b"}, "b": {"deployment": "y"}}

    def verdicts(x: Any, y: Any) -> dict[str, str]:
        found = run(one_a_second(600, deployments={"x": x, "y": y}, arms=arms)).summary().verdicts
        return {name: one.verdict for name, one in found.items()}

    assert verdicts(slow_pool, roomy) == {"x": "overloaded", "y": "stable"}
    breaks = api(errors={"rate": 1.0}, retry={"retries": 0})
    assert verdicts(breaks, slow_pool)["x"] == "stable"
    down = api(errors={"outages": [{"from_s": 0.0, "duration_s": 5000.0}]}, retry={"retries": 9})
    assert verdicts(down, roomy)["x"] == "stable"
    assert verdicts(api(deadline_s=3.0), roomy)["x"] == "stable"  # too short for any of its calls
    assert verdicts(slow_pool, {**slow_pool, "replicas": 2}) == {"x": "overloaded", "y": "overloaded"}


def test_lists_of_fallbacks_go_on_with_those_of_the_last() -> None:
    broken = {"errors": {"rate": 1.0, "after": "at_once"}, "retry": {"retries": 0}}
    deployments = {name: api(**broken) for name in "wxy"} | {"z": api()}
    arms: dict[str, Any] = {name: {"deployment": name} for name in "wxyz"}
    arms["w"]["fallback"], arms["y"]["fallback"] = ["x", "y"], "z"
    for policy in ("Always('w')", "Overflow(['w', 'z'], waiting=1000)"):
        got = records(one_a_second(deployments=deployments, arms=arms, policy=policy))
        assert (got["answered_by"] == "z").all()
        assert (got["fallbacks"] == 3).all()
        assert (got["errors"] == 3).all()
    got = records(one_a_second(deployments=deployments, arms=arms, policy="Always('x')"))
    assert (got["status"] == "failed").all()  # its own has none
    assert set(got["answered_by"]) == {None}


def test_live_load_chooses_among_arms_that_fall_back() -> None:
    """By the compiled engine's rule and by a function, which the reference engine runs: the same requests, the same ends."""
    deployments = {
        "x": api(concurrency=2, errors={"rate": 0.3, "after": "midway"}, retry={"retries": 1, "base_s": 0.5}),
        "y": api(concurrency=3, errors={"outages": [{"from_s": 20, "duration_s": 15}]}, retry={"retries": 0}),
        "z": api(),
    }
    arms = {
        "x": {"deployment": "x", "fallback": ["y", "z"]},
        "y": {"deployment": "y", "fallback": "z"},
        "z": {"deployment": "z"},
    }
    raw = one_a_second(200, deployments=deployments, arms=arms, policy=None)

    def least_loaded(_: Any, load: Any) -> str:
        share = {"x": load.in_progress["x"] + load.waiting["x"], "y": load.in_progress["y"] + load.waiting["y"]}
        return "x" if (share["x"] / 2, share["x"]) <= (share["y"] / 3, share["y"]) else "y"

    rule, function = records(raw, policy="LeastLoaded(['x', 'y'])"), records(raw, policy=least_loaded)
    assert {"x", "y", "z"} <= set(rule["answered_by"])
    for name in ("arm", "answered_by", "status", "finished_s", "lost_tokens", "fallbacks"):
        assert (rule[name] == function[name]).all(), name


# ---------------------------------------------------------------------------------------------------- what must hold


@pytest.mark.parametrize("times", TIMES)
def test_every_request_has_one_end_and_every_attempt_one(times: Times) -> None:
    """Attempts made are answers, and what was refused, broke or was given up; nobody has more tokens than attempts allow."""
    again = 0
    for seed in range(4000, 4150):
        case = failing_scenario(seed, times)
        given = case.works, case.names, case.deployments, case.rule, None, case.tables
        got = compiled.run(*given, following=case.following, outages=case.outages)
        attempts = got.attempts
        if attempts is None:
            continue
        assert set(got.status.tolist()) <= {COMPLETED, REJECTED, TIMED_OUT, FAILED}
        assert not np.isnan(got.finished_s).any()
        assert (got.status != IN_FLIGHT).all()
        # Who failed had an error; without errors nobody was asked again for one.
        assert (attempts.errors >= (got.status == FAILED)).all()
        assert (attempts.error_retries <= attempts.errors).all()
        assert (attempts.outage_errors <= attempts.errors).all()
        moved = attempts.fallbacks > 0
        assert (moved == (got.arm != attempts.first)).all()
        assert (got.first_token_s[got.status == COMPLETED] <= got.finished_s[got.status == COMPLETED]).all()
        for k, work in enumerate(case.works):
            tokens = work.reasoning_tokens + work.visible_tokens
            lost, times_lost = (
                attempts.lost_generated[k],
                np.repeat(attempts.lost_attempts[k], np.diff(work.sample_start)),
            )
            assert (got.generated_tokens[k] <= tokens).all()
            assert (lost <= times_lost * tokens).all()
            assert (attempts.lost_reasoning[k] <= np.minimum(lost, times_lost * work.reasoning_tokens)).all()
            assert (attempts.lost_prefilled[k] <= attempts.lost_attempts[k] * work.prompt_tokens).all()
            assert (attempts.lost_cached[k] <= attempts.lost_prefilled[k]).all()
            owner = np.repeat(np.arange(work.requests), np.diff(work.stage_start))
            of_stages = attempts.error_retries + attempts.timeout_retries
            by_request = np.bincount(owner, attempts.lost_attempts[k], work.requests)
            assert (by_request <= of_stages + (got.status == TIMED_OUT) + attempts.fallbacks).all()
            again += int(lost.sum())
    assert again > 1000


def test_bills_of_attempts_add_up_and_follow_prices() -> None:
    """Relation 5, with a pool beside endpoints; nothing is billed for a price of 0, and twice for one of twice as much."""
    pool = {**seconds_pool(timeout_s=9.0).model_dump(exclude_none=True), "max_num_seqs": 4}
    pool["retry"] = {"retries": 2, "base_s": 0.5, "on": ["timeout"]}
    errors = {"rate": 0.3, "after": "midway", "outages": [{"from_s": 40.0, "duration_s": 20.0}]}

    def with_prices(times: float) -> Result:
        price = {"input_usd_per_mtok": times, "output_usd_per_mtok": 5.0 * times}
        x = {**api(errors=errors, retry={"retries": 1}), "price": price}
        arms = {"a": {"deployment": "x", "fallback": "b"}, "b": {"deployment": "p"}}
        return run(one_a_second(300, deployments={"x": x, "p": pool}, arms=arms))

    free, plainly, dear = (with_prices(times) for times in (0.0, 1.0, 2.0))
    got = [one.runs[0] for one in (free, plainly, dear)]
    assert not got[0].api_cost_usd.any()
    np.testing.assert_allclose(got[2].api_cost_usd, 2 * got[1].api_cost_usd)
    np.testing.assert_allclose(got[2].lost_usd - got[0].lost_usd, 2 * (got[1].lost_usd - got[0].lost_usd))
    assert ((got[1].lost_usd > 0) == (got[1].lost_tokens > 0)).all()
    assert (got[1].lost_usd <= got[1].cost_usd + 1e-15).all()
    paid = got[1].paid_s * 1.0 / 3600 + got[1].api_cost_usd.sum()
    assert got[1].cost_usd.sum() == pytest.approx(paid)
    at_api = (got[1].answered_by == 0) & (got[1].result.status == COMPLETED)
    assert 0.2 < at_api.mean() < 0.95


def test_retries_that_are_never_needed_change_nothing() -> None:
    """Nothing breaks and nothing is late: whatever clients would do is not seen."""
    raw = one_a_second(50, deployments={"d": api(timeout_s=20.0)})
    ready = {"retries": 3, "on": ["rate_limit", "error", "timeout"]}
    more = one_a_second(50, deployments={"d": api(timeout_s=20.0, deadline_s=60.0, retry=ready)})
    before, after = run(raw).records, run(more).records
    assert after.select(before.columns).equals(before)


def test_times_without_errors_are_those_of_a_rate_of_0() -> None:
    raw, none = problems(0.0), problems(0.0)
    none["deployments"]["x"]["errors"] = {"rate": 0.0}
    before, after = run(raw).records, run(none).records
    assert after.select(before.columns).equals(before)


# ----------------------------------------------------------------------------------------------------------- targets


def test_targets_on_failures() -> None:
    targets = {
        "failed_rate": 0.05,
        "timeout_rate": 0.2,
        "goodput": 0.9,
        "slo": {"latency_s": 100.0},
        "latency_p95_s": 4.0,
    }
    raw = one_a_second(2000, deployments={"d": api(errors={"rate": 0.3}, retry={"retries": 0})}, targets=targets)
    result = run(raw)
    summary, failed = result.summary(), float((result.runs[0].result.status == FAILED).mean())
    for name, expected in (("failed_rate", failed), ("timeout_rate", failed), ("timed_out_rate", 0.0)):
        figure = summary.quantity(name)
        assert figure is not None
        assert figure.value == pytest.approx(expected)
    goodput, p95 = summary.quantity("goodput"), summary.quantity("latency_p95_s")
    assert goodput is not None
    assert goodput.value == pytest.approx(1 - failed)
    assert p95 is not None
    assert p95.value == pytest.approx(4.0)  # those that failed, at once, count in none


def test_a_plan_with_fallbacks_promises_what_its_simulation_gives(tmp_path: Path) -> None:
    """It is proposed without them, says so, and its figures have them."""
    deployments = {"x": api(errors={"rate": 0.5, "after": "midway"}, retry={"retries": 0}), "y": api()}
    deployments["y"]["price"] = {"input_usd_per_mtok": 20.0, "output_usd_per_mtok": 100.0}
    arms = {
        "cheap": {"profile": MISTRAL, "deployment": "x", "fallback": "dear"},
        "dear": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "y"},
    }
    plan = plan_model(asking(small(deployments=deployments, arms=arms, search={}), minimize="cost", accuracy=0.1))
    assert any("fallbacks" in note for note in plan.predicted.notes)
    path = tmp_path / "plan.yaml"
    plan.save(path)
    again = simulate(ttc.load_plan(path).scenario, replications=8).summary()
    for name in ("accuracy", "cost_usd_per_request"):
        promised, found = plan.predicted.quantity(name), again.quantity(name)
        assert promised is not None
        assert found is not None
        assert promised.low <= found.value <= promised.high
    shares = [part.fallback_share for part in plan.predicted.per_arm.values()]
    assert max(share or 0.0 for share in shares) > 0.3


# --------------------------------------------------------------------------------------------------------- bad input


def with_api(**more: Any) -> dict[str, Any]:
    return one_a_second(deployments={"d": api(**more)})


OUTAGES = [{"from_s": 10, "duration_s": 10}, {"from_s": 15, "duration_s": 10}]


@pytest.mark.parametrize(
    ("raw", "field", "said"),
    [
        (with_api(errors={"rate": 1.5}), "deployments.d.errors.rate", "1"),
        (with_api(errors={"rate": -0.1}), "deployments.d.errors.rate", "0"),
        (with_api(errors={}), "deployments.d.errors", "at least one of rate, outages"),
        (with_api(errors={"after": "midway"}), "deployments.d.errors", "rate"),
        (with_api(errors={"outages": OUTAGES}), "outages.1.from_s", "at least 20"),
        (with_api(errors={"outages": []}), "deployments.d.errors.outages", "1"),
        (with_api(errors={"mtbf_h": 3}), "deployments.d.errors.mttr_h", "beside mtbf_h"),
        (with_api(errors={"mtbf_h": 3, "mttr_h": 1, "outages": OUTAGES[:1]}), "deployments.d.errors.outages", "mtbf_h"),
        (with_api(errors={"slow": [{"from_s": 0, "until_s": 9, "factor": 0}]}), "slow.0.factor", "0"),
        (with_api(errors={"slow": [{"from_s": 9, "until_s": 9, "factor": 2}]}), "slow.0.until_s", "more than from_s"),
        (with_api(retry={"on": ["timeout"]}), "deployments.d.retry.on", "timeout_s"),
        (with_api(retry={"on": ["queue_full"]}), "deployments.d.retry.on.0", "rate_limit"),
        (with_api(timeout_s=5, deadline_s=4), "deployments.d.deadline_s", "at least timeout_s"),
        (one_a_second(arms={"a": {"deployment": "d", "fallback": "b"}}), "arms.a.fallback", "one of a"),
        (one_a_second(arms={"a": {"deployment": "d", "fallback": "a"}}), "arms.a.fallback", "a -> a"),
        (one_a_second(arms={"a": {"deployment": "d", "fallback": []}}), "arms.a.fallback", ""),
        (
            one_a_second(arms={n: {"deployment": "d", "fallback": o} for n, o in (("a", "b"), ("b", "c"), ("c", "a"))}),
            "arms.a.fallback",
            "a -> b -> c -> a",
        ),
        (problems(0.1, targets={"failed_rate": 0.5, "timeout_rate": 0.1}), "targets.failed_rate", "timeout_rate"),
    ],
)
def test_bad_input_gets_one_clear_line(raw: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        run(raw)
    assert field in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_fallback_that_was_not_measured_on_the_source_is_refused() -> None:
    raw = problems(0.1)
    raw["workload"]["sources"]["hard"] = {"problem_set": "reasoning-gym", "subset": "reasoning-gym-hard"}
    raw["arms"]["second"]["sources"] = ["easy"]
    with pytest.raises(InputError, match=re.escape("arms.first.fallback")):
        run(raw)


def test_outages_that_nobody_could_draw_are_refused() -> None:
    with pytest.raises(InputError, match="mtbf_h"):
        run(with_api(errors={"mtbf_h": 1e-9, "mttr_h": 1e-9}))
