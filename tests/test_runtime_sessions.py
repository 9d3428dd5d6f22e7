"""Sessions at work: what a runtime makes of each turn as it comes is what a simulation makes of all of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports import export_plan
from ttc_sim.deploying.runtime import Runtime
from ttc_sim.deploying.sessions import SessionEndedError
from ttc_sim.policies import ENDED, choose_arms, parse_policy
from ttc_sim.policies.memory import places_of
from ttc_sim.simulation.drawing import Draws, as_requests, draw
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once

from .routing import runtime_of
from .test_runtime import PROMPTS, folder, saved, scenario

__all__ = ["folder"]
CACHE = {"kind": "automatic", "min_tokens": 8, "step_tokens": 1, "ttl_s": 300.0}
BANDS = "Threshold(at=0.4, below='weak', above='strong@500')"
FOLLOWING: list[Any] = [
    f"Sticky({BANDS}, worth_usd=0.00001)",
    f"Sticky({BANDS}, lost_tokens=20, patience=2)",
    f"Escalate({BANDS})",
    f"SessionBudget(Sticky({BANDS}, lost_tokens=0), usd=0.0002, to='weak')",
    f"SessionBudget({BANDS}, tokens=150, at_end='stop')",
    {"easy": f"Sticky({BANDS}, moves=0)", "hard": "SessionBudget(Always('strong'), usd=0.001, to='weak')"},
]


def planned_with(folder: Path, policy: Any) -> Any:
    made = scenario(folder, policy)
    places = dict(made.deployments)
    raw = {name: item.model_dump(exclude_none=True) for name, item in places.items()}
    for item in raw.values():
        item["cache"] = CACHE
        item["price"]["cached_input_usd_per_mtok"] = item["price"]["input_usd_per_mtok"] / 10
    return scenario(folder, policy, deployments=raw)


def in_sessions(model: Model, draws: Draws) -> Draws:
    """The same requests as turns of some 40 sessions of a source each, one of ten of none."""
    n = len(draws)
    u = uniforms(3, "sessions", n, 4)
    assert draws.row is not None
    assert model.population is not None
    source, prompt = model.population.source[draws.row], model.population.prompt_tokens[draws.row]
    session = np.where(u[:, 0] < 0.9, (u[:, 1] * 20).astype(np.int64) + 20 * source, -1)
    turn, after, reused = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for s in np.unique(session[session >= 0]).tolist():
        at = np.flatnonzero(session == s)
        turn[at] = np.arange(len(at))
        after[at[1:]] = at[:-1]
        reused[at[1:]] = np.minimum(prompt[at[1:]], prompt[at[:-1]] * (u[at[1:], 2] > 0.2))
    think = np.where(after >= 0, 1000 * u[:, 3] ** 4, 0.0)
    arrival = np.where(after >= 0, np.nan, draws.traffic.arrival_s)
    traffic = replace(
        draws.traffic, arrival_s=arrival, after=after, think_s=think, session=session, turn=turn, reused_tokens=reused
    )
    return replace(draws, traffic=traffic)


def route(live: Runtime, model: Model, draws: Draws, k: int, agent: str = "") -> str | int:
    population, traffic = model.population, draws.traffic
    assert population is not None
    assert draws.row is not None
    assert traffic.session is not None
    row = int(draws.row[k])
    prompt, source = PROMPTS[int(population.problem[row][1:])], population.sources[int(population.source[row])]
    if traffic.session[k] < 0:
        return live.route(prompt, source).arm
    assert traffic.reused_tokens is not None
    assert traffic.think_s is not None
    told: dict[str, Any] = {"reused_tokens": int(traffic.reused_tokens[k]), "think_s": float(traffic.think_s[k])}
    try:
        return live.route(prompt, source, f"s{traffic.session[k]}", agent=agent, **told).arm
    except SessionEndedError:
        return ENDED


@pytest.mark.parametrize("policy", FOLLOWING)
def test_turns_go_where_a_simulation_sends_them(folder: Path, policy: Any) -> None:
    planned = planned_with(folder, policy)
    model = load_model(planned)
    draws = in_sessions(model, draw(model, 0))
    mine = planned.parsed_policy()
    chosen = choose_arms(mine, as_requests(model, draws), model.arm_names)
    live = runtime_of(saved(folder, planned))
    found = [route(live, model, draws, k) for k in range(len(draws))]
    assert found == [model.arm_names[arm] if arm >= 0 else ENDED for arm in chosen.tolist()]
    assert len(set(found)) > 1
    alone = replace(draws, traffic=replace(draws.traffic, session=np.full(len(draws), -1)))
    assert (chosen != choose_arms(mine, as_requests(model, alone), model.arm_names)).any()
    # What is run is what was chosen, without the turns of sessions that have ended.
    run = run_once(model, mine, draws)
    assert run.arm.tolist() == chosen[chosen != ENDED].tolist()
    assert run.draws.ended == int((chosen == ENDED).sum())
    assert ("stop" in str(policy)) == (run.draws.ended > 0)
    # As many sessions a second, of fewer turns: nobody pays for those that are not sent.
    share = len(run.arm) / len(draws)
    assert run.rate_per_s == pytest.approx(share * draws.traffic.rate_per_s)


def test_sessions_in_many_threads_do_not_disturb_one_another(folder: Path) -> None:
    planned = planned_with(folder, FOLLOWING[0])
    model = load_model(planned)
    draws = in_sessions(model, draw(model, 0))
    chosen = choose_arms(planned.parsed_policy(), as_requests(model, draws), model.arm_names)
    live = runtime_of(saved(folder, planned))
    session, found = draws.traffic.session, [""] * len(draws)
    assert session is not None

    def work(thread: int) -> None:
        for k in np.flatnonzero(session % 4 == thread).tolist():
            found[k] = str(route(live, model, draws, k))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [model.arm_names[arm] for arm in chosen.tolist()]


def test_agents_have_conversations_of_their_own(folder: Path) -> None:
    planned = planned_with(folder, FOLLOWING[1])
    model = load_model(planned)
    draws = in_sessions(model, draw(model, 0))
    traffic = draws.traffic
    assert traffic.session is not None
    assert traffic.turn is not None
    # Every third turn is a sub-agent's.
    turn, agent = traffic.turn.copy(), np.zeros(len(draws), dtype=np.int64)
    for s in np.unique(traffic.session[traffic.session >= 0]).tolist():
        at = np.flatnonzero(traffic.session == s)
        agent[at[2::3]] = 1
        for who in (0, 1):
            its = at[agent[at] == who]
            turn[its] = np.arange(len(its))
    draws = replace(draws, traffic=replace(traffic, turn=turn))
    requests = as_requests(model, draws)
    assert requests.turns is not None
    # Where a turn's number is that of both, a simulation goes by how long prompts are; here it must be told who it was.
    conversation = places_of(requests.turns, requests.prompt_tokens).conversation
    chosen = choose_arms(planned.parsed_policy(), requests, model.arm_names)
    live = runtime_of(saved(folder, planned))
    found = [route(live, model, draws, k, agent=f"a{conversation[k]}") for k in range(len(draws))]
    assert found == [model.arm_names[arm] for arm in chosen.tolist()]
    assert len(np.unique(conversation)) > 60


def test_what_is_answered_is_spent(folder: Path) -> None:
    planned = planned_with(folder, "SessionBudget(Always('strong@500'), usd=0.01, to='weak')")
    live = runtime_of(saved(folder, planned))
    first = live.route("a" * 400, "easy", "one")
    assert first.arm == "strong@500"
    assert "turn 1 of its session begins" in first.why
    live.answered(first, 900)  # $0.009, and 101 tokens of prompt $0.0002
    live.answered(first, 900)  # which is told once
    second = live.route("a" * 400, "easy", "one")
    assert second.arm == "strong@500"
    live.answered(second, 100)
    third = live.route("a" * 400, "easy", "one")
    assert third.arm == "weak"
    assert "turn 3 of its session moves from strong@500" in third.why
    assert live.route("a" * 400, "easy", "another").arm == "strong@500"
    assert live.route("a" * 400, "hard", "one").arm == "strong@500"  # sources have sessions of their own


def test_memory_is_bounded(folder: Path) -> None:
    planned = planned_with(folder, "Escalate(Threshold(at=1, below='weak', above='strong@500', score='turn'))")
    live = runtime_of(saved(folder, planned), most_sessions=3)
    for name in ("a", "b", "c"):
        assert [live.route("hello", "easy", name).arm for _ in range(2)] == ["weak", "strong@500"]
    assert live.route("hello", "easy", "a").arm == "strong@500"
    assert live.route("hello", "easy", "d").arm == "weak"
    assert live.route("hello", "easy", "a").arm == "strong@500"
    assert live.route("hello", "easy", "b").arm == "weak"  # it was forgotten, and begins anew
    assert live.counts["sessions forgotten"] == 2


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"agent": "sub"}, "agent: got 'sub'; expected a session beside it"),
        ({"reused_tokens": 3}, "reused_tokens: got 3; expected a session beside it"),
        ({"session": "s", "reused_tokens": 3}, "reused_tokens: got 3; expected at most the 2 tokens of the prompt"),
        ({"session": "s", "reused_tokens": -1}, "reused_tokens: got -1"),
        ({"session": "s", "think_s": -1.0}, "think_s: got -1.0; expected seconds, at least 0"),
        ({"session": "s", "agent": 3}, "agent: got 3"),
        ({"session": 7}, "session: got 7"),
    ],
)
def test_what_cannot_be_said_of_a_turn_is_refused(folder: Path, told: dict[str, Any], says: str) -> None:
    live = runtime_of(saved(folder, planned_with(folder, FOLLOWING[0])))
    with pytest.raises(InputError, match=says):
        live.route("hello", "easy", **told)


def test_nothing_is_tried_on_purpose_where_sessions_are_followed(folder: Path) -> None:
    with pytest.raises(InputError, match=r"explore: got 0\.1; expected 0: an arm that is tried on purpose loses"):
        runtime_of(saved(folder, planned_with(folder, FOLLOWING[0])), explore=0.1)


@pytest.mark.parametrize("policy", [FOLLOWING[1], "Banded(edges=[2], arms=['weak', 'strong@500'], score='turn')"])
def test_exports_say_that_they_follow_no_session(folder: Path, policy: str) -> None:
    plan = ttc.load_plan(saved(folder, planned_with(folder, policy)))
    stands = {name: Endpoint(url="http://localhost:1/v1", model=name, body={}) for name in ("cheap", "dear")}
    for to in ("litellm", "semantic-router"):
        said = "\n".join(export_plan(plan, to, stands).not_expressed)
        assert (
            f"source easy: arms are chosen by {parse_policy(policy)!r}, which follows each session from turn to turn"
            in said
        )
    for to in ("python", "typescript"):
        with pytest.raises(
            InputError, match="expected a policy that looks at the request alone: one that follows sessions"
        ):
            export_plan(plan, to, stands)
