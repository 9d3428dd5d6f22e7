"""Whether deployments keep up: theory says when they do, and what timeouts, the end of a day or a burst hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.intervals import problems
from tests.test_bills import API, on_problems, replayed
from ttc_sim.policies import Always
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

POPULATION = problems(60, 3, 5, False)
# Requests a second that 8 places serve, each token of an answer taking 0.02 s.
CAPACITY = 8 / (0.02 * float(POPULATION.attempts["a"].visible_tokens.mean()))


def summary_of(arrivals: dict[str, Any], requests: int = 2000, runs: int = 3, arm: str = "own", **pool: Any) -> Summary:
    model = load_model(scenario_from_dict(on_problems(arrivals, requests, **pool)), POPULATION)
    return summarize(model, [run_once(model, Always(arm), draw(model, k)) for k in range(runs)])


def at(load: float, **more: Any) -> dict[str, Any]:
    return {"process": "gamma", "cv": 1.0, "rate_per_s": load * CAPACITY, **more}


@pytest.mark.parametrize("requests", [1, 2, 10, 2000])
@pytest.mark.parametrize("load", [0.3, 0.85])
def test_below_capacity_is_stable(load: float, requests: int) -> None:
    found = summary_of(at(load), requests)
    assert found.verdict == "stable"
    assert found.verdicts["pool"].verdict == "stable"
    assert found.queue_growth_per_s == {}


@pytest.mark.parametrize("requests", [200, 2000])
@pytest.mark.parametrize("load", [1.5, 4.0])
def test_above_capacity_is_overloaded(load: float, requests: int) -> None:
    found = summary_of(at(load), requests)
    assert found.verdict == "overloaded"
    if requests == 2000:
        growth = (load - 1) * CAPACITY
        assert found.queue_growth_per_s == {"pool": pytest.approx(growth, rel=0.15)}
        # The last request waits for all that is more than could be served.
        assert found.longest_wait_s == pytest.approx(2000 / CAPACITY * (1 - 1 / load), rel=0.15)


@pytest.mark.parametrize("pool", [{"timeout_s": 25}, {"timeout_s": 90}, {"queue_limit": 3}, {"queue_limit": 0}])
def test_timeouts_and_full_queues_do_not_hide_an_overload(pool: dict[str, Any]) -> None:
    found = summary_of(at(1.6), **pool)
    assert found.verdict == "overloaded"
    assert found.unserved_rate.value > 0.2
    assert summary_of(at(0.5), **{**pool, "timeout_s": 90}).verdict == "stable"


@pytest.mark.parametrize("timeout_s", [None, 60])
def test_an_overloaded_hour_that_drains_is_a_backlog(timeout_s: float | None) -> None:
    day = [(4000, 0.4), (1000, 2.0), (4000, 0.4)]
    steps = [{"duration_s": s, "rate_per_s": load * CAPACITY} for s, load in day]
    requests = int(sum(step["duration_s"] * step["rate_per_s"] for step in steps))
    found = summary_of({"process": "piecewise", "steps": steps}, requests, timeout_s=timeout_s)
    assert found.verdict == "backlogged"
    assert not found.verdicts["pool"].behind_at_end
    if timeout_s is None:
        # Twice as much as it can serve, for 1,000 s.
        assert found.longest_wait_s == pytest.approx(1000, rel=0.2)
    # Cut off in the busy hour, it is still behind, and in the long run would not be.
    cut = int(requests * 0.6)
    still = summary_of({"process": "piecewise", "steps": steps}, cut, timeout_s=timeout_s)
    assert still.verdict == "backlogged"
    assert still.verdicts["pool"].behind_at_end


def test_a_burst_is_carried(tmp_path: Path) -> None:
    found = simulate(replayed(tmp_path, [(0.0, 20, 50)] * 4000)).summary()
    assert found.verdict == "backlogged"
    assert found.longest_wait_s == pytest.approx(499, rel=0.01)
    in_a_second = simulate(replayed(tmp_path, [(i / 4000, 20, 50) for i in range(4000)])).summary()
    assert in_a_second.verdict == "backlogged"
    lasting = simulate(replayed(tmp_path, [(0.05 * i, 20, 50) for i in range(4000)])).summary()
    assert lasting.verdict == "overloaded"


def test_users_who_wait_do_not_overload() -> None:
    users = {"process": "closed_loop", "users": 64, "think_s": 0}
    assert summary_of(users).verdict == "stable"
    assert summary_of(users, timeout_s=10).verdict == "overloaded"


def test_answers_that_are_slow_by_themselves_are_no_overload() -> None:
    """A timeout below what answers take alone is missed however idle the server."""
    found = summary_of(at(0.05), timeout_s=4)
    assert found.timeout_rate.value > 0.2
    assert found.verdict == "stable"


def test_requests_that_never_fit_are_no_overload() -> None:
    found = summary_of(at(0.05), kv_cache_tokens=256)
    assert found.rejected_rate.value > 0.2
    assert found.verdict == "stable"


@pytest.mark.parametrize(("per_minute", "verdict"), [(90, "overloaded"), (200, "stable")])
def test_a_rate_limit_is_a_capacity(per_minute: float, verdict: str) -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 2.0}, 2000)
    raw["deployments"]["api"] = {**API, "requests_per_minute": per_minute}
    model = load_model(scenario_from_dict(raw), POPULATION)
    found = summarize(model, [run_once(model, Always("other"), draw(model, k)) for k in range(2)])
    assert found.verdict == verdict


def test_the_second_stage_of_a_cascade_is_found_out() -> None:
    raw = on_problems({"process": "poisson", "rate_per_s": 2 * CAPACITY}, 2000)
    raw["arms"]["other"]["strategy"] = "Cascade(stages=[Single(), 'own'], tpr=0.1, fpr=0.1)"
    model = load_model(scenario_from_dict(raw), POPULATION)
    found = summarize(model, [run_once(model, Always("other"), draw(model, k)) for k in range(2)])
    assert found.verdicts["pool"].verdict == "overloaded"
    assert found.verdicts["api"].verdict == "stable"
    assert np.isnan(found.verdicts["pool"].longest_wait_s)


def test_a_crowded_batch_is_found_out() -> None:
    """All are begun at once, and iterations slow down without end."""
    step = {"base_s": 0.0, "per_prefill_token_s": 1e-6, "per_sequence_s": 0.02, "per_kv_token_s": 0.0}
    found = summary_of(at(0.5), 600, step_time=step, max_num_seqs=1000)
    assert found.verdict == "overloaded"
    assert found.longest_wait_s < 0.1 * found.latency_s["p95"].value
    assert summary_of(at(0.05), 600, step_time=step, max_num_seqs=1000).verdict == "stable"
