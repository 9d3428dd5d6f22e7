"""Contexts that are made shorter once a session has spent its budget: worked by hand, beside a workload that does so from the
first turn on, and as a runtime has it (relation 15)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.sessions import CompactFirstError
from ttc_sim.engine import compiled, reference
from ttc_sim.policies import Always, SessionBudget, Threshold, choose_arms, parse_policy
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import Draws, as_requests, draw
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.offering import offer
from ttc_sim.simulation.pairing import Pair
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.shortening import with_summaries
from ttc_sim.simulation.summary import summarize
from ttc_sim.workload import Traffic

from .routing import runtime_of, saved_plan
from .test_session_accuracy import Chats, agent
from .test_session_policies_simulated import model_of

__all__ = ["Chats"]
AT_ONCE = {"median_s": 1e-3, "p95_s": 1e-3}
ROWS: dict[str, list[Any]] = {
    "session": ["a"] * 5,
    "agent": ["main"] * 5,
    "tool_tokens": [300] * 5,
    "system_tokens": [100] * 5,
    "t_s": [0.0, 10.0, 20.0, 30.0, 40.0],
    "think_s": [0.0, 5.0, 5.0, 5.0, 5.0],
    "api_s": [5.0] * 5,
    "input_tokens": [1000, 2000, 3000, 4000, 5000],
    "output_tokens": [100] * 5,
    "reused_tokens": [0, 1000, 2000, 3000, 4000],
}


def by_hand(folder: Path, policy: str, rows: dict[str, list[Any]] = ROWS, **changed: Any) -> Model:
    """Recorded sessions at two endpoints of $1 a million tokens, a tenth of that for cached ones, and $10 for answers."""
    pl.DataFrame(rows, strict=False).write_parquet(folder / "turns.parquet")
    price = {"input_usd_per_mtok": 1.0, "cached_input_usd_per_mtok": 0.1, "output_usd_per_mtok": 10.0}
    item = {"kind": "api", "price": price, "first_token": AT_ONCE, "per_token": AT_ONCE}
    item["cache"] = {"kind": "automatic", "min_tokens": 1, "step_tokens": 1, "ttl_s": 300.0}
    starts = {"process": "even", "rate_per_s": 0.001}
    arrivals = {"process": "sessions", "file": "turns.parquet", "starts": starts, **changed.pop("arrivals", {})}
    raw = {
        "name": "by-hand",
        "replications": 1,
        "workload": {"arrivals": arrivals, "requests": len(rows["session"])},
        "deployments": {"one": item, "two": item},
        "arms": {"one": {"deployment": "one"}, "two": {"deployment": "two"}},
        "policy": policy,
        **changed,
    }
    return load_model(scenario_from_dict(raw, str(folder / "s.yaml")))


def run_of(model: Model) -> Run:
    policy = model.scenario.parsed_policy()
    assert policy is not None
    return run_once(model, policy, draw(model, 0))


def test_a_session_worked_by_hand(tmp_path: Path) -> None:
    """After two turns 3,200 tokens are spent of 3,000: the third, of 3,000, is beyond 2,400 and is summed up to 1,500, 400 of them
    its head. The fourth has 1,500 less, 2,500, and is summed up again; so is the fifth."""
    policy = "SessionBudget(Always('one'), tokens=3000, at_end='compact', above_tokens=2400, to_tokens=1500)"
    model = by_hand(tmp_path, policy)
    run = run_of(model)
    traffic = run.draws.traffic
    assert run.prompt_tokens.tolist() == [1000, 2000, 3000, 1500, 2500, 1500, 2500, 1500]
    assert run.visible_tokens.tolist() == [100, 100, 1100, 100, 1100, 100, 1100, 100]
    assert traffic.summary is not None
    assert traffic.summary.tolist() == [False, False, True, False, True, False, True, False]
    assert run.result.cached_tokens[0].tolist() == [0, 1000, 2000, 400, 1500, 400, 1500, 400]
    assert traffic.turn is not None
    assert traffic.turn.tolist() == list(range(8))
    assert traffic.think_s is not None
    assert traffic.think_s.tolist() == [0.0, 5.0, 5.0, 0.0, 5.0, 0.0, 5.0, 0.0]
    assert traffic.ends is not None
    assert traffic.ends.tolist() == [False] * 7 + [True]
    fresh, cached = 15_500 - 7_200, 7_200
    assert run.cost_usd.sum() == pytest.approx(1e-6 * (fresh + 0.1 * cached + 10 * 3_800))
    said = summarize(model, [run], parts=False).notes
    assert any(note.startswith("3 of 8 requests ask for summaries") for note in said)
    # Five recorded turns are eight a session now, as many sessions come.
    assert run.rate_per_s == pytest.approx(8 / 5 * draw(model, 0).traffic.rate_per_s)


@pytest.mark.parametrize(
    ("budget", "first"),
    # A prompt of 1,000 and an answer cost $0.002; then 1,000 found and 1,000 new, $0.0021; and so on, 100 microdollars more each.
    [("usd=0.00199", 2000), ("usd=0.00201", 3000), ("usd=0.0042", 4000), ("usd=0.0062", 4000), ("usd=0.0064", 5000)],
)
def test_dollars_are_spent_as_by_hand(tmp_path: Path, budget: str, first: int) -> None:
    policy = f"SessionBudget(Always('one'), {budget}, at_end='compact', above_tokens=1200, to_tokens=1100)"
    run = run_of(by_hand(tmp_path, policy))
    summary = run.draws.traffic.summary
    assert summary is not None
    assert run.prompt_tokens[summary][0] == first


def test_also_on_another_arm(tmp_path: Path) -> None:
    policy = "SessionBudget(Always('one'), tokens=3000, to='two', at_end='compact', above_tokens=2400, to_tokens=1500)"
    run = run_of(by_hand(tmp_path, policy))
    assert run.arm.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert run.result.cached_tokens[0].tolist() == [0, 1000, 0, 400, 1500, 400, 1500, 400]  # read anew where it goes


def test_sub_agents_have_contexts_of_their_own(tmp_path: Path) -> None:
    """The session's budget is spent by both; each is summed up where it is long, and goes on from its own summary."""
    rows = {
        **ROWS,
        "agent": ["main", "main", "main.0", "main.0", "main"],
        "input_tokens": [1000, 2000, 2600, 2700, 3000],
        "reused_tokens": [0, 1000, 0, 2600, 2000],
    }
    policy = "SessionBudget(Always('one'), tokens=3000, at_end='compact', above_tokens=2400, to_tokens=1500)"
    run = run_of(by_hand(tmp_path, policy, rows))
    # main, main; the sub-agent asks, and goes on twice; main asks, and goes on
    assert run.prompt_tokens.tolist() == [1000, 2000, 2600, 1500, 1600, 3000, 1500]
    turn, summary = run.draws.traffic.turn, run.draws.traffic.summary
    assert turn is not None
    assert summary is not None
    assert turn.tolist() == [0, 1, 0, 1, 2, 2, 3]
    assert np.flatnonzero(summary).tolist() == [2, 5]
    assert run.result.cached_tokens[0].tolist() == [0, 1000, 0, 400, 1500, 2000, 400]


def test_the_turn_behind_a_summary_goes_on_with_its_conversation(tmp_path: Path) -> None:
    """Though a sub-agent's last prompt is as long as all that it has in common with what was sent before, and of its number."""
    rows = {
        **{name: values[:4] for name, values in ROWS.items()},
        "agent": ["main", "main.0", "main.0", "main"],
        "input_tokens": [3000, 390, 400, 5000],
        "reused_tokens": [0, 0, 390, 3000],
    }
    policy = "SessionBudget(Always('one'), tokens=3000, at_end='compact', above_tokens=2400, to_tokens=1500)"
    run = run_of(by_hand(tmp_path, policy, rows))
    assert run.prompt_tokens.tolist() == [3000, 390, 400, 5000, 1500]
    turn = run.draws.traffic.turn
    assert turn is not None
    assert turn.tolist() == [0, 0, 1, 1, 2]
    assert conversations(run.draws.traffic) == ["a0", "a1", "a1", "a0", "a0"]


def test_a_head_as_long_as_what_is_to_be_left_stays(tmp_path: Path) -> None:
    policy = "SessionBudget(Always('one'), tokens=1, at_end='compact', above_tokens=500, to_tokens=464)"
    run = run_of(by_hand(tmp_path, policy))
    assert run.prompt_tokens.tolist() == ROWS["input_tokens"]
    assert run.draws.traffic.summary is None


SHORTER = {"above_tokens": 100_000, "to_tokens": 30_000}
FROM_THE_SECOND = "SessionBudget(Always('opus'), tokens=1, at_end='compact', above_tokens=100000, to_tokens=30000)"
FIELDS = ("session", "turn", "prompt_tokens", "visible_tokens", "reasoning_tokens", "reused_tokens", "think_s", "ends")


@pytest.mark.parametrize("more", [{"shared_heads": False}, {"shared_heads": False, "answers_reused": True}])
def test_from_the_second_turn_on_it_is_a_workload_that_compacts(more: dict[str, Any]) -> None:
    """A budget of one token is spent by the first turn: sessions that begin short are those of a workload with `compact`, to the
    token that is found in a cache, and to the second."""
    model, by_workload = (of_agents(n, **more, **changed) for n, changed in ((2500, {}), (2600, {"compact": SHORTER})))
    one = run_once(model, parse_policy(FROM_THE_SECOND), draw(model, 0))
    other = run_once(by_workload, Always("opus"), draw(by_workload, 0))
    mine, its = one.draws.traffic, other.draws.traffic
    assert mine.session is not None
    assert its.session is not None
    before = draw(model, 0).traffic
    assert before.session is not None
    assert before.prompt_tokens is not None
    first = before.prompt_tokens[np.unique(before.session, return_index=True)[1]]
    whole = np.flatnonzero(first[: mine.session.max()] <= SHORTER["above_tokens"])
    at, its_at = (np.flatnonzero(np.isin(session, whole)) for session in (mine.session, its.session))
    assert mine.summary is not None
    assert mine.summary[at].sum() > 10
    for name in FIELDS:
        assert getattr(mine, name)[at].tolist() == getattr(its, name)[its_at].tolist(), name
    for name in ("cached_tokens", "prefilled_tokens"):
        assert getattr(one.result, name)[0][at].tolist() == getattr(other.result, name)[0][its_at].tolist()
    np.testing.assert_allclose(one.cost_usd[at], other.cost_usd[its_at], rtol=1e-12)


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_with_heads_in_common_too(tmp_path: Path, seed: int, answers: bool) -> None:
    """Sessions of any shape that begin short, with sub-agents and turns that go back: every field, and what caches find."""
    shorter, rows = {"above_tokens": 3000, "to_tokens": 1200}, any_sessions(seed)
    policy = "SessionBudget(Always('one'), tokens=1, at_end='compact', above_tokens=3000, to_tokens=1200)"
    each = {"answers_reused": answers, "starts": {"process": "even", "rate_per_s": 0.01}}
    one = run_of(by_hand(tmp_path, policy, rows, arrivals=each))
    model = by_hand(tmp_path, "Always('one')", rows, arrivals={**each, "compact": shorter})
    other = run_once(model, Always("one"), draw(model, 0, requests=len(one.arm)))
    mine, its = one.draws.traffic, other.draws.traffic
    assert mine.summary is not None
    assert mine.summary.sum() > 5
    for name in (*FIELDS, "after", "arrival_s"):
        np.testing.assert_array_equal(getattr(mine, name)[:-1], getattr(its, name)[:-1], err_msg=name)
    assert one.result.cached_tokens[0].tolist() == other.result.cached_tokens[0].tolist()
    assert one.cost_usd.tolist() == other.cost_usd.tolist()
    assert mine.reused_tokens is not None
    assert (one.result.cached_tokens[0][1:] > mine.reused_tokens[1:]).any()  # heads of other sessions


def any_sessions(seed: int) -> dict[str, list[Any]]:
    """Sessions of two kinds of tools whose prompts grow, or go back to any turn of their agent."""
    rng, rows = np.random.default_rng(seed), {name: list[Any]() for name in ROWS}
    for s in range(12):
        tools, prompts = int(rng.integers(2)), dict[int, list[int]]()
        for t in range(int(rng.integers(3, 15))):
            agent = int(t > 0 and rng.random() < 0.2)
            before = prompts.setdefault(agent, [])
            shared = (
                int(before[rng.integers(len(before))] if before and rng.random() < 0.2 else before[-1]) if before else 0
            )
            before.append(shared + int(rng.integers(700, 900)))
            row = f"s{s}", "main.0" if agent else "main", 300 + tools, 100, 10.0 * t, 5.0, 5.0, before[-1], 80, shared
            for name, value in zip(ROWS, row, strict=True):
                rows[name].append(value)
    return rows


def of_agents(requests: int, **arrivals: Any) -> Model:
    raw = model_of(requests).scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["workload"]["arrivals"].update(arrivals)
    return load_model(scenario_from_dict(raw, "agents.yaml"))


def test_a_budget_that_is_never_spent_changes_no_byte() -> None:
    model = model_of(600)
    draws = draw(model, 0)
    policy = parse_policy("SessionBudget(Always('opus'), usd=1e9, at_end='compact', above_tokens=1000, to_tokens=900)")
    assert with_summaries(model, policy, draws) is draws
    assert run_once(model, policy, draws).cost_usd.tolist() == run_once(model, Always("opus"), draws).cost_usd.tolist()


def test_who_has_nothing_to_do_with_it_draws_the_same_numbers() -> None:
    """Sessions that are not made shorter, and turns before they are, keep their draws; a summary has its own."""
    model = model_of(1500)
    draws = draw(model, 0)
    made = with_summaries(model, parse_policy(FROM_THE_SECOND), draws)
    summary = made.traffic.summary
    assert summary is not None
    before, after = draws.uniform("any", 2), made.uniform("any", 2)
    assert after[~summary].tolist() == before.tolist()
    own = {tuple(row) for row in after[summary].tolist()}
    assert len(own) == summary.sum() > 10
    assert not own & {tuple(row) for row in before.tolist()}
    # Whoever is cut off later has them still.
    at = np.arange(len(made) // 2)
    assert made.taken(at).uniform("any", 2).tolist() == after[at].tolist()


def test_pairs_are_in_step_where_the_same_is_sent() -> None:
    model = model_of(900)
    draws = draw(model, 0)
    pooled = [
        Pooled(model, [run_once(model, parse_policy(FROM_THE_SECOND.replace("30000", left)), draws)])
        for left in ("30000", "30000", "20000")
    ]
    assert Pair(pooled[0], pooled[1]).in_step
    assert not Pair(pooled[0], pooled[2]).in_step
    assert not Pair(pooled[0], Pooled(model, [run_once(model, Always("opus"), draws)])).in_step


def settled(model: Model, policy: Any, draws: Draws) -> Draws:
    """The requests that are sent; asked about those, the policy has nothing to add."""
    made = with_summaries(model, policy, draws)
    requests = as_requests(model, made)
    budget = policy.for_source("traffic")
    assert not budget.to_compact(requests, model.arm_names).any()
    assert with_summaries(model, policy, made) is made
    return made


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_arms_that_write_more_spend_the_budget_sooner(times: float) -> None:
    """Each turn goes to the wordy arm while its prompt is short: what it adds spends the budget, and is summed up."""
    raw = model_of(700).scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["arms"]["haiku"]["turn_tokens"] = times
    model = load_model(scenario_from_dict(raw, "agents.yaml"))
    inner = Threshold(at=50_000, below="haiku", above="opus", score="prompt_tokens")
    policy = SessionBudget(inner, tokens=300_000, at_end="compact", above_tokens=60_000, to_tokens=20_000)
    draws = draw(model, 0)
    made = settled(model, policy, draws)
    traffic, requests = made.traffic, as_requests(model, made)
    summary, prompt, session = traffic.summary, traffic.prompt_tokens, traffic.session
    assert summary is not None
    assert prompt is not None
    assert session is not None
    assert summary.sum() > 5
    assert (prompt[np.flatnonzero(summary)] > 60_000).all()
    assert (prompt[np.flatnonzero(summary) + 1] == 20_000).all()
    # By a plain account: the budget is spent before the first summary of each session, and whoever is long later is summed up.
    assert requests.turns is not None
    spent = prompt + requests.turns.output_tokens
    for s in np.unique(session).tolist():
        at = np.flatnonzero(session == s)
        upto = np.cumsum(spent[at]) - spent[at]
        assert not (summary[at] & (upto < 300_000)).any()
        assert not ((upto >= 300_000) & ~summary[at] & (prompt[at] > 60_000)).any()
    # An answer of the wordy arm is so much longer.
    arm = choose_arms(policy, requests, model.arm_names)
    assert run_once(model, policy, draws).arm.tolist() == arm.tolist()


def test_of_two_sources_the_one_whose_policy_has_it_is_made_shorter() -> None:
    raw = model_of(700).scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    arrivals = raw["workload"].pop("arrivals")
    del raw["workload"]["requests"]
    raw["workload"] |= {"duration": "1 h", "sources": {name: {"arrivals": arrivals} for name in ("chat", "batch")}}
    model = load_model(scenario_from_dict(raw, "agents.yaml"))
    policy = parse_policy({"chat": "Always('opus')", "batch": FROM_THE_SECOND})
    draws = draw(model, 0)
    made = with_summaries(model, policy, draws)
    summary, source = made.traffic.summary, made.source
    assert summary is not None
    assert source is not None
    assert summary.sum() > 5
    assert (source[summary] == 1).all()
    assert draws.source is not None
    for name in ("prompt_tokens", "session", "turn", "reused_tokens", "think_s"):
        before, after = getattr(draws.traffic, name), getattr(made.traffic, name)
        assert after[source == 0].tolist() == before[draws.source == 0].tolist()
    one, other = (
        run_once(model, one, draws)
        for one in (policy, parse_policy({"chat": "Always('opus')", "batch": "Always('haiku')"}))
    )
    found = [run.result.cached_tokens[0][run.draws.source == 0].tolist() for run in (one, other)]
    assert found[0] == found[1]
    assert len(one.draws) > len(other.draws)


def test_engines_agree_and_a_summary_shares_no_old_context(tmp_path: Path) -> None:
    """On a pool with a cache of its own, block for block."""
    pool = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 2.0,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 2048,
        "kv_cache_tokens": 16_384,
        "prefix_caching": True,
        "step_time": {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-4, "per_kv_token_s": 1e-8},
    }
    policy = "SessionBudget(Always('one'), tokens=1, at_end='compact', above_tokens=2500, to_tokens=1200)"
    places = {"deployments": {"pool": pool}, "arms": {"one": {"deployment": "pool"}}}
    model = by_hand(
        tmp_path, policy, any_sessions(2), **places, arrivals={"starts": {"process": "even", "rate_per_s": 0.1}}
    )
    made = with_summaries(model, parse_policy(policy), draw(model, 0))
    offers = offer(model, made, np.zeros(len(made), dtype=np.int64))
    one, other = (engine.run(offers.works, ["one"], model.deployments) for engine in (compiled, reference))
    for name in ("arrival_s", "finished_s", "first_token_s", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.cached_tokens[0], other.cached_tokens[0])
    summary = made.traffic.summary
    assert summary is not None
    behind = np.flatnonzero(summary) + 1
    head = made.traffic.beginnings
    assert head is not None
    assert (one.cached_tokens[0][behind] <= head.head_tokens[behind]).all()


# ------------------------------------------------------------------------------------------------------------- planned


def test_a_plan_has_contexts_made_shorter_where_that_is_offered_and_pays(tmp_path: Path) -> None:
    """Prompts of up to 12,000 tokens that are read anew, as nothing is kept: made shorter they cost a part of that."""
    item = {"kind": "api", "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}}
    item |= {"first_token": AT_ONCE, "per_token": AT_ONCE}
    of_one = {"deployments": {"one": item}, "arms": {"one": {"deployment": "one"}}, "targets": {"minimize": "cost"}}
    shorter = {"search": {"compact": {"above_tokens": 4000, "to_tokens": 1500}}}
    given = by_hand(tmp_path, "Always('one')", any_sessions(3), **of_one, **shorter).scenario
    plan = ttc.optimize(given)
    chosen = plan.policy.for_source("traffic")
    assert isinstance(chosen, SessionBudget)
    assert (chosen.at_end, chosen.above_tokens, chosen.to_tokens) == ("compact", 4000, 1500)
    assert plan.predicted.summaries_share > 0
    one, other = (ttc.simulate(given, policy).summary() for policy in (chosen, Always("one")))
    assert one.sessions is not None
    assert other.sessions is not None
    assert one.sessions.usd.value < 0.9 * other.sessions.usd.value
    assert ttc.simulate(plan.scenario).summary().cost_usd_per_request == one.cost_usd_per_request
    assert one.as_json()["summaries_share"] == one.summaries_share > 0
    assert "summaries_share" not in other.as_json()
    # No budget that was not taken is better, by session.
    for tokens in (4000, 10_000, 40_000):
        budget = ttc.simulate(given, replace(chosen, tokens=tokens)).summary().sessions
        assert budget is not None
        assert one.sessions.usd.value <= 1.0001 * budget.usd.value
    # What is not offered is not searched.
    without = ttc.optimize(given.model_copy(update={"search": given.search.model_copy(update={"compact": None})}))
    assert without.policy.for_source("traffic") == Always("one")


def test_where_there_is_nothing_to_make_shorter_it_is_not_offered(tmp_path: Path) -> None:
    shorter = {"compact": {"above_tokens": 4000, "to_tokens": 1500}}
    plain = {"arrivals": {"process": "poisson", "rate_per_s": 1.0}, "requests": 30}
    model = by_hand(tmp_path, "Always('one')", search=shorter)
    raw = model.scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["workload"] = {**plain, "lengths": {"prompt_tokens": 100, "output_tokens": 10}}
    with pytest.raises(InputError, match=r"search\.compact: .* expected none: no requests arrive by process: sessions"):
        scenario_from_dict(raw, "s.yaml")
    with pytest.raises(InputError, match=r"search\.compact\.to_tokens: got 4000; expected less than above_tokens 4000"):
        by_hand(tmp_path, "Always('one')", search={"compact": {"above_tokens": 4000, "to_tokens": 4000}})


def test_where_accuracy_counts_contexts_stay_as_they_are(tmp_path: Path) -> None:
    profile = agent(tmp_path, "agent", {f"i{k}": [k % 2] for k in range(40)})
    arms = {"arms": {"one": {"deployment": "one", "profile": profile}}}
    shorter = {"search": {"compact": {"above_tokens": 2400, "to_tokens": 1500}}}
    item = by_hand(tmp_path, "Always('one')").scenario.model_dump(mode="json", exclude_none=True)["deployments"]["one"]
    changed = {**arms, "deployments": {"one": item}, **shorter, "targets": {"minimize": "cost", "accuracy": 0.3}}
    given = by_hand(tmp_path, "Always('one')", any_sessions(4), **changed).scenario
    with pytest.raises(InputError, match=r"search\.compact: .* expected none where accuracy counts"):
        ttc.optimize(given)
    found = ttc.simulate(
        given, "SessionBudget(Always('one'), tokens=1, at_end='compact', above_tokens=2400, to_tokens=1500)"
    ).summary()
    assert found.accuracy is not None
    assert any(note.endswith("what answers lose by it is not known") for note in found.notes)


# ------------------------------------------------------------------------------------------------------------- at work


POLICIES = [
    "SessionBudget(Always('opus'), tokens=400000, at_end='compact', above_tokens=60000, to_tokens=30000)",
    "SessionBudget(Sticky(Threshold(at=50000, below='haiku', above='opus', score='prompt_tokens')), usd=0.3, at_end='compact', "
    "above_tokens=60000, to_tokens=25000)",
    "SessionBudget(Always('opus'), usd=0.5, to='haiku', at_end='compact', above_tokens=50000, to_tokens=30000)",
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_runtime_says_when_to_make_contexts_shorter(tmp_path: Path, policy: str) -> None:
    """Turn by turn, as callers know them: where a simulation asks for a summary the runtime says that one is to be asked for, and
    nowhere else; summaries and turns go where a simulation sends them."""
    model = model_of(250)
    run = run_once(model, parse_policy(policy), draw(model, 0))
    planned = model.scenario.model_copy(update={"policy": policy})
    live = runtime_of(saved_plan(tmp_path / "plan.yaml", planned))
    traffic = run.draws.traffic
    requests = as_requests(model, run.draws)
    turns = requests.turns
    assert turns is not None
    assert turns.summary is not None
    assert turns.head_tokens is not None
    assert turns.summary.sum() > 5
    refused = 0
    conversation = conversations(traffic)
    for k in range(len(run.draws)):
        told: dict[str, Any] = {
            "prompt_tokens": int(requests.prompt_tokens[k]),
            "agent": conversation[k],
            "reused_tokens": int(turns.reused_tokens[k]),
            "think_s": float(turns.think_s[k]),
            "head_tokens": int(min(turns.head_tokens[k], requests.prompt_tokens[k])),
        }
        name = f"s{turns.session[k]}"
        if turns.summary[k]:
            with pytest.raises(CompactFirstError, match="asked for by a turn of its own first") as error:
                live.route("", session=name, **told)
            assert error.value.to_tokens == int(requests.prompt_tokens[k + 1])
            refused += 1
        decision = live.route("", session=name, summary=bool(turns.summary[k]), **told)
        assert decision.arm == model.arm_names[run.arm[k]], k
        live.answered(decision, int(turns.output_tokens[k]))
    assert refused == turns.summary.sum() == live.counts["context to be made shorter"]


def conversations(traffic: Traffic) -> list[str]:
    """Of each turn a name of its agent within its session: that of the turn of which it is the next."""
    from ttc_sim.policies.memory import places_of
    from ttc_sim.simulation.drawing import turns_of

    turns = turns_of(traffic)
    assert turns is not None
    assert traffic.prompt_tokens is not None
    return [f"a{c}" for c in places_of(turns, traffic.prompt_tokens).conversation.tolist()]


def test_what_a_runtime_takes_to_be_sent_before_after_a_summary(tmp_path: Path) -> None:
    """Nothing said, a turn begins with all of the one before; behind a summary with the head alone. A turn behind one is sent as it
    is, however long: its caller has made it as short as it goes."""
    policy = "SessionBudget(Always('one'), usd=0.002, at_end='compact', above_tokens=1200, to_tokens=1100)"
    live = runtime_of(saved_plan(tmp_path / "plan.yaml", by_hand(tmp_path, policy).scenario))

    def answered(prompt_tokens: int, output: int, **more: Any) -> float:
        live.answered(live.route("", session="s", prompt_tokens=prompt_tokens, think_s=1.0, **more), output)
        memory = live._sessions._known["traffic", "s"].followed._memory
        assert memory is not None
        return 1e6 * float(memory.spent[0, 0])

    assert answered(1000, 100) == pytest.approx(2000)
    with pytest.raises(CompactFirstError, match=r"got 1300; expected at most 1,200, as session 's' has spent"):
        live.route("", session="s", prompt_tokens=1300)
    spent = answered(1300, 700, summary=True, head_tokens=400)
    assert spent == pytest.approx(2000 + 100 + 300 + 7000)
    again = answered(1250, 50, head_tokens=400)
    assert again == pytest.approx(spent + 40 + 850 + 500)
    with pytest.raises(CompactFirstError):
        live.route("", session="s", prompt_tokens=1300)
    assert live.route("", session="s", agent="sub", prompt_tokens=1100).arm == "one"
    with pytest.raises(CompactFirstError):
        live.route("", session="s", agent="sub", prompt_tokens=1300)
    assert live.route("", session="s", agent="sub", prompt_tokens=1300, head_tokens=1050).arm == "one"  # it cannot be


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"summary": True}, "summary: got True; expected a session beside it"),
        ({"head_tokens": 3}, "head_tokens: got 3; expected a session beside it"),
        ({"session": "s", "summary": 1}, "summary: got 1; expected True or False"),
        ({"session": "s", "head_tokens": 11}, "head_tokens: got 11; expected at most the 10 tokens of the prompt"),
        ({"session": "s", "head_tokens": -1}, "head_tokens: got -1"),
    ],
)
def test_what_cannot_be_said_of_a_turn_is_refused(tmp_path: Path, told: dict[str, Any], says: str) -> None:
    live = runtime_of(saved_plan(tmp_path / "plan.yaml", by_hand(tmp_path, "Always('one')").scenario))
    with pytest.raises(InputError, match=says):
        live.route("", prompt_tokens=10, **told)


# ------------------------------------------------------------------------------------------------------------ refused


def test_sessions_of_which_it_is_not_known_what_prompts_hold_are_refused(tmp_path: Path) -> None:
    raw = by_hand(tmp_path, "Always('one')").scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["workload"] = {"arrivals": {"process": "test_chats"}, "requests": 30}
    raw["policy"] = "SessionBudget(Always('one'), tokens=10, at_end='compact', above_tokens=110, to_tokens=100)"
    with pytest.raises(InputError, match="only of arrivals of process: sessions it is known what their prompts hold"):
        run_of(load_model(scenario_from_dict(raw, str(tmp_path / "s.yaml"))))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"at_end": "compact"},
            "above_tokens: got None; expected a whole number from 1 to 100,000,000, with at_end='compact'",
        ),
        ({"at_end": "compact", "above_tokens": 10}, "to_tokens: got None"),
        (
            {"at_end": "compact", "above_tokens": 10, "to_tokens": 10},
            "to_tokens: got 10; expected less than above_tokens 10",
        ),
        ({"at_end": "compact", "above_tokens": 1.5, "to_tokens": 1}, "above_tokens: got 1.5"),
        ({"at_end": "compact", "above_tokens": True, "to_tokens": 1}, "above_tokens: got True"),
        ({"at_end": "compact", "above_tokens": 10**9, "to_tokens": 1}, "above_tokens: got 1000000000"),
        ({"at_end": "stop", "above_tokens": 10}, "above_tokens: got 10; expected at_end='compact' beside it"),
        ({"to": "small", "to_tokens": 10}, "to_tokens: got 10; expected at_end='compact' beside it"),
        ({"at_end": "compactly"}, "at_end: got 'compactly'; expected 'stop' or 'compact'"),
    ],
)
def test_lengths_that_cannot_be_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        SessionBudget(Always("large"), tokens=5, **given)


def test_it_reads_as_it_is_written() -> None:
    policy = SessionBudget(Always("a"), usd=2.0, to="b", at_end="compact", above_tokens=50_000, to_tokens=9_000)
    assert parse_policy(repr(policy)) == policy
    said = "once a session has spent $2, all its turns go to b, and a context longer than 50,000 tokens is made shorter, to 9,000"
    assert policy.in_words == said
    assert said.replace("all its turns go to b, and ", "") == replace(policy, to=None).in_words
