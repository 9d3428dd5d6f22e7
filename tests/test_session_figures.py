"""Figures of sessions: by hand, beside each other, and their intervals beside how sessions really differ."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from rich.console import Console

import ttc_sim as ttc
from ttc_sim.base import intervals
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.policies import Always
from ttc_sim.reporting.text import print_summary
from ttc_sim.scenario import Arrivals, Scenario, scenario_from_dict, with_changes
from ttc_sim.scenario.traffic import ARRIVALS
from ttc_sim.simulation.batches import in_batches
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.offering import offer, run_offers
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.prompts import prompts_taken_in
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.session_figures import SessionFigures, session_figures
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload import Traffic

API: dict[str, Any] = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 1.0, "cached_input_usd_per_mtok": 0.1, "output_usd_per_mtok": 5.0},
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
}
POOL = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 3.6,
    "max_num_seqs": 64,
    "kv_cache_tokens": 2_000_000,
    "step_time": {"base_s": 0.012, "per_prefill_token_s": 6e-5, "per_sequence_s": 3e-4, "per_kv_token_s": 6e-8},
}


class OwnSessions(Arrivals):
    """Sessions of a few turns: the prompt of each is all that came before, and so many tokens more."""

    carries_lengths = True
    process: Literal["own_sessions"] = "own_sessions"
    turns: list[int]
    first: int = 1000
    more: int = 200
    output: int = 64
    sessions_per_s: float = 0.1
    think_s: float = 20.0
    recorded: bool = False

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        most = np.array(self.turns)
        drawn = uniforms(seed, f"own/{run}", requests, 2)
        which = (drawn[:, 0] * len(most)).astype(np.int64)
        length = most[which]
        start_s = np.cumsum(-np.log(drawn[:, 1])) / self.sessions_per_s
        session = np.repeat(np.arange(requests), length)[:requests]
        first = np.concatenate([[True], np.diff(session) > 0])
        turn = np.arange(requests) - np.maximum.accumulate(np.where(first, np.arange(requests), 0))
        prompt = self.first + turn * (self.more + self.output)
        return Traffic(
            arrival_s=np.where(first, start_s[session], np.nan),
            client=np.zeros(requests, dtype=np.int64),
            prompt_tokens=prompt,
            reasoning_tokens=None,
            visible_tokens=np.full(requests, self.output),
            prefix_id=session,
            rate_per_s=self.sessions_per_s * float(most.mean()),
            after=np.where(first, -1, np.arange(requests) - 1),
            think_s=np.where(first, 0.0, self.think_s),
            prefix_tokens=prompt + self.output,
            session=session,
            turn=turn,
            reused_tokens=np.where(first, 0, prompt - self.more),
            recorded=which[session] if self.recorded else None,
        )


@pytest.fixture(autouse=True)
def _own_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARRIVALS, "_registered", {})
    ttc.register(OwnSessions)


def scenario(requests: int, policy: str = "Always('own')", replications: int = 1, **process: Any) -> Any:
    raw = {
        "name": "sessions",
        "replications": replications,
        "workload": {"arrivals": {"process": "own_sessions", "turns": [3], **process}, "requests": requests},
        "deployments": {"api": API, "pool": POOL},
        "arms": {"hosted": {"deployment": "api"}, "own": {"deployment": "pool"}},
        "policy": policy,
    }
    return scenario_from_dict(raw)


TO_AND_FRO = "Threshold(at=1200, below='own', above='hosted', score='prompt_tokens')"


def test_a_session_on_a_pool_by_hand() -> None:
    found = ttc.simulate(scenario(6)).summary()
    sessions = found.sessions
    assert sessions is not None
    # Prompts of 1,000, 1,264 and 1,528 tokens; of the last answer's token the cache holds nothing, and blocks are of 16.
    prompt, again = 1000 + 1264 + 1528, 1064 + 1328
    cached = 1063 // 16 * 16 + 1327 // 16 * 16
    assert (sessions.sessions, sessions.turns.value, sessions.prompt_tokens.value) == (2, 3, prompt)
    assert sessions.output_tokens.value == 3 * 64
    assert sessions.sent_before_share.value == pytest.approx(again / prompt)
    assert sessions.cached_share.value == pytest.approx(cached / prompt)
    assert sessions.cold_share.value == pytest.approx((again - cached) / prompt)
    for one in (
        sessions.switches,
        sessions.switched_share,
        sessions.cold_after_switch_share,
        sessions.saved_usd,
        sessions.switch_usd,
    ):
        assert one.value == 0
    assert set(found.caches) == {"pool"}
    assert found.caches["pool"].cached_share.value == pytest.approx(cached / prompt)
    assert found.caches["pool"].saved_usd_per_request.value == 0  # a pool is paid by the hour, whatever it finds


def test_turns_sent_elsewhere_find_nothing_there() -> None:
    found = ttc.simulate(scenario(6, TO_AND_FRO)).summary()
    sessions = found.sessions
    assert sessions is not None
    prompt = 1000 + 1264 + 1528
    # The second turn goes to the API, where nothing is kept; so the third, which stays there, finds nothing either.
    assert sessions.switches.value == 1
    assert sessions.switched_share.value == pytest.approx(1 / 2)
    assert sessions.cold_after_switch_share.value == pytest.approx(1064 / prompt)
    assert sessions.cold_share.value == pytest.approx(1328 / prompt)
    assert sessions.cached_share.value == 0
    assert not found.caches
    assert "caches" not in found.as_json()


def test_what_an_api_found_is_billed_by_its_prices() -> None:
    """Read from the engine's arrays, filled by hand: 960 of 1,264 tokens found where 1,064 had been sent, and 1,056 kept."""
    given = scenario(3, "Always('hosted')").model_dump(exclude={"path"})
    given["deployments"]["api"]["cache"] = {"provider": "openai"}
    model = load_model(scenario_from_dict(given))
    draws = draw(model, 0)
    offers = offer(model, draws, np.zeros(3, dtype=np.int64))
    result = run_offers(model, draws, offers.works, None, None, None, None)
    result = replace(result, cached_tokens=(np.array([0, 960, 0]),), written_tokens=(np.array([0, 0, 0]),))
    found = prompts_taken_in(model, offers, draws.traffic, result, np.zeros(3, dtype=np.int64))
    assert found is not None
    assert found.tokens.tolist() == [1000, 1264, 1528]
    assert found.cold.tolist() == [0, 104, 1328]
    assert found.saved_usd.tolist() == pytest.approx([0, 960 * 0.9e-6, 0])
    assert found.cold_usd.tolist() == pytest.approx([0, 104 * 0.9e-6, 1328 * 0.9e-6])
    assert not found.moved.any()


@pytest.mark.parametrize("policy", ["Always('own')", "Always('hosted')", TO_AND_FRO])
def test_sessions_add_up_to_their_turns(policy: str) -> None:
    cached = {**API, "cache": {"kind": "automatic", "min_tokens": 512, "ttl_s": 30.0}}
    cached["price"] = {**API["price"], "cache_write_usd_per_mtok": 1.25}
    given = scenario(700, policy, turns=[1, 2, 9], replications=3, think_s=25.0)
    result = ttc.simulate(with_changes(given, {"deployments.api": cached}))
    summary = result.summary()
    sessions = summary.sessions
    assert sessions is not None
    assert sessions.turns.value * sessions.sessions == pytest.approx(700)
    assert sessions.usd.value == pytest.approx(sessions.turns.value * summary.cost_usd_per_request.value)
    assert sessions.prompt_tokens.value == pytest.approx(
        sessions.turns.value * summary.tokens_per_request["prompt"].value
    )
    for run in result.runs:
        # What caches saved is the bill's; what is found was sent before, to the same deployment (relation 11).
        assert run.prompts is not None
        assert run.draws.traffic.reused_tokens is not None
        assert (run.prompts.of_requests(run.prompts.cached) <= run.draws.traffic.reused_tokens).all()
        assert (run.prompts.of_requests(run.prompts.tokens) == run.prompt_tokens).all()
        np.testing.assert_allclose(run.prompts.of_requests(run.prompts.saved_usd), run.cache_saved_usd, atol=1e-12)
    parts = (sessions.cached_share, sessions.cold_share, sessions.cold_after_switch_share)
    assert sum(one.value for one in parts) == pytest.approx(sessions.sent_before_share.value)
    by_deployment = sum(one.saved_usd_per_request.value for one in summary.caches.values())
    assert sessions.saved_usd.value == pytest.approx(sessions.turns.value * by_deployment)
    assert (sessions.saved_usd.value != 0) == (policy != "Always('own')")
    assert (sessions.switch_usd.value > 0) == (sessions.switches.value > 0)


def test_what_was_lost_on_the_way_adds_up_too() -> None:
    cached = {**API, "cache": {"provider": "deepseek"}, "timeout_s": 1.2, "on_timeout": "finish"}
    cached |= {"errors": {"rate": 0.2, "after": "midway"}, "retry": {"retries": 3, "on": ["error", "timeout"]}}
    cached["first_token"] = {"median_s": 0.5, "p95_s": 0.9}
    arms = {"hosted": {"deployment": "api", "fallback": "own"}, "own": {"deployment": "pool"}}
    given = with_changes(scenario(300, "Always('hosted')", turns=[6]), {"deployments.api": cached, "arms": arms})
    (run,) = ttc.simulate(given).runs
    assert run.result.attempts is not None
    assert run.result.attempts.fallbacks.any()
    assert run.result.attempts.error_retries.any()
    assert run.prompts is not None
    assert (run.prompts.of_requests(run.prompts.tokens) == run.prompt_tokens).all()
    np.testing.assert_allclose(run.prompts.of_requests(run.prompts.saved_usd), run.cache_saved_usd, atol=1e-12)
    assert (run.prompts.cached <= run.prompts.tokens).all()
    # A turn that another arm took over is one that went elsewhere, and so is the next that comes back.
    fell = (run.result.attempts.fallbacks > 0) & (run.draws.traffic.turn != 5)
    after = np.flatnonzero(fell) + 1
    assert (run.prompts.moved[after] == (run.answered_by[after] != run.answered_by[after - 1])).all()
    assert run.prompts.moved.any()


def test_a_session_of_one_turn_is_a_request() -> None:
    alone = scenario(60, turns=[1], replications=2)
    summary = ttc.simulate(alone).summary()
    assert summary.sessions is not None
    for mine, its in (
        (summary.sessions.usd, summary.cost_usd_per_request),
        (summary.sessions.prompt_tokens, summary.tokens_per_request["prompt"]),
    ):
        assert (mine.value, mine.low, mine.high) == pytest.approx((its.value, its.low, its.high))
    # Intervals are those of requests that belong to no session.
    model = load_model(alone)
    runs = [run_once(model, Always("own"), draw(model, k)) for k in range(2)]
    plain = [
        replace(
            run,
            draws=replace(run.draws, traffic=replace(run.draws.traffic, session=None, turn=None, reused_tokens=None)),
        )
        for run in runs
    ]
    one, other = summarize(model, runs), summarize(model, plain)
    assert other.sessions is None
    for name in ("cost_usd_per_request", "latency_s", "ttft_s", "timeout_rate", "cost_usd_per_day"):
        assert getattr(one, name) == getattr(other, name), name


def pooled(given: Scenario, run: int) -> Pooled:
    """One run, without the figures that take long."""
    model = load_model(given)
    return Pooled(model, [run_once(model, Always("hosted"), draw(model, run))])


def figures_of(one: Pooled) -> SessionFigures:
    found = session_figures(one)
    assert found is not None
    return found


def test_intervals_hold_for_other_sessions() -> None:
    """Of 95% intervals of one run, about so many cover the truth, though turns of a session are alike."""
    truth = figures_of(pooled(scenario(40_000, turns=[1, 1, 2, 30]), 0))
    usd = truth.usd.value / truth.turns.value
    inside, given = np.zeros(3), scenario(1500, turns=[1, 1, 2, 30])
    for run in range(1, 101):
        one = pooled(given, run)
        found, cost = figures_of(one), one.cost_usd(one.all)
        pairs = (
            (intervals.mean(cost.value, cost.variance), usd),
            (found.usd, truth.usd.value),
            (found.sent_before_share, truth.sent_before_share.value),
        )
        inside += [one.low <= its <= one.high for one, its in pairs]
    assert (inside >= 90).all(), inside


def test_intervals_hold_for_other_sessions_than_those_recorded() -> None:
    """However many are drawn from few recorded sessions, no more is known of others than the recorded ones tell."""
    inside, truth = np.zeros(2), 1 / 0.1  # turns of a session, in the mean
    for seed in range(1, 81):
        turns = 1 + np.floor(np.log(uniforms(seed, "recorded", 40)[:, 0]) / np.log(0.9)).astype(int)
        for k, known in enumerate((True, False)):
            found = figures_of(pooled(scenario(4000, turns=turns.tolist(), recorded=known), seed))
            inside[k] += found.turns.low <= truth <= found.turns.high
            assert found.recorded == known * len(turns)
    assert inside[0] >= 72
    assert inside[1] < 64  # what would be said without


def test_one_session_tells_nothing_of_others() -> None:
    found = ttc.simulate(scenario(40, "Always('hosted')", turns=[40])).summary()
    assert found.sessions is not None
    assert found.sessions.usd.high > 2 * found.sessions.usd.value
    assert found.cost_usd_per_request.high > 2 * found.cost_usd_per_request.value


def test_batches_hold_whole_sessions_of_any_length() -> None:
    rng = np.random.default_rng(5)
    for n, many in ((1, 1), (7, 3), (400, 30), (400, 400), (1000, 2)):
        session = np.sort(rng.integers(0, many, n))
        batch, groups = in_batches(session, 20)
        assert set(batch.tolist()) == set(range(groups))
        assert groups <= 20
        assert all(len(set(batch[session == one].tolist())) == 1 for one in set(session.tolist()))


def test_sessions_that_a_run_cuts_short_are_counted() -> None:
    process = {"process": "sessions", "sessions": "coding-agent", "starts": {"process": "poisson", "rate_per_s": 0.01}}
    workload = {"workload": {"arrivals": process, "duration": "1h"}}
    found = ttc.simulate(with_changes(scenario(6, "Always('hosted')"), workload)).summary()
    assert found.sessions is not None
    assert 0.05 < found.sessions.unfinished_share.value < 1
    whole = ttc.simulate(scenario(6)).summary()
    assert whole.sessions is not None
    assert whole.sessions.unfinished_share.value == 0
    share = ttc.simulate(scenario(1)).summary().caches
    assert all(one.prompt_share.high <= 1 for one in share.values())


def test_a_run_that_its_sessions_outlast_says_so() -> None:
    """Where sessions begin within less time than they last, what they share is hardly ever as busy as it will be."""
    short = ttc.simulate(scenario(60, turns=[6], think_s=60.0)).summary()
    assert short.sessions is not None
    assert short.sessions.lasts_s.value == pytest.approx(5 * 60, rel=0.02)
    (note,) = (one for one in short.notes if "fills up and empties" in one)
    assert "last 0.08" in note
    assert "duration of 0.8" in note
    for requests, policy in ((3000, "own"), (60, "hosted")):  # endpoints without limits are never busy
        found = ttc.simulate(scenario(requests, turns=[6], think_s=60.0), f"Always('{policy}')").summary()
        assert not any("fills up" in one for one in found.notes), policy


def test_the_table_of_sessions() -> None:
    found = ttc.simulate(scenario(200, TO_AND_FRO, replications=2)).summary()
    out = io.StringIO()
    print_summary(Console(file=out, width=150), found, {})
    said = out.getvalue()
    assert "A session" in said
    assert "turns sent elsewhere than the last" in said
    assert "200 requests in 67 sessions" in said
    kept = found.as_json()["sessions"]
    assert isinstance(kept, dict)
    assert kept["turns"]["value"] == pytest.approx(200 / 67)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"turn": None}, "turn: got None; expected given too"),
        ({"session": np.full(6, -2)}, "session.0.: got -2; expected a number, at least 0"),
        (
            {"reused_tokens": np.full(6, 10_000)},
            "reused_tokens.0.: got 10000; expected at most the tokens of the prompt",
        ),
    ],
)
def test_sessions_that_cannot_be(changed: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = OwnSessions.generate

    def broken(self: OwnSessions, *given: Any) -> object:
        traffic = made(self, *given)
        assert isinstance(traffic, Traffic)
        return replace(traffic, **changed)

    monkeypatch.setattr(OwnSessions, "generate", broken)
    with pytest.raises(InputError, match=says):
        ttc.simulate(scenario(6))


def test_a_cache_that_has_nothing_to_find_is_said() -> None:
    cached = {"deployments.r1-api.cache": {"provider": "deepseek"}}
    found = ttc.simulate(ttc.with_changes("reasoning-gateway", cached), "Always('r1')", requests=20, replications=1)
    assert (
        "cache of r1-api finds nothing: the prompts of these requests have nothing in common" in found.summary().notes
    )
