"""Policies over the shipped sessions of a coding agent, as simulations carry them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from ttc_sim.base.draws import I64
from ttc_sim.policies import FollowedSession, Policy, Requests, SessionBudget, parse_policy
from ttc_sim.policies.costs import TokenUsd
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pairing import Pair
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import summarize

BY_LENGTH = "Threshold(at=60000, below='haiku', above='opus', score='prompt_tokens')"


def model_of(requests: int = 1200, **cache: Any) -> Model:
    at_once = {"median_s": 1e-4, "p95_s": 1e-4}
    prices = {"opus": (5.0, 0.5, 25.0), "haiku": (1.0, 0.1, 5.0)}
    keys = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
    found = {"kind": "automatic", "min_tokens": 1024, "ttl_s": 300.0, **cache}
    deployments = {
        name: {
            "kind": "api",
            "price": dict(zip(keys, price, strict=True)),
            "first_token": at_once,
            "per_token": at_once,
            "cache": found,
        }
        for name, price in prices.items()
    }
    arrivals = {"process": "sessions", "sessions": "coding-agent", "starts": {"process": "poisson", "rate_per_s": 0.02}}
    raw = {
        "name": "agents",
        "replications": 1,
        "workload": {"arrivals": arrivals, "requests": requests},
        "deployments": deployments,
        "arms": {name: {"deployment": name} for name in deployments},
    }
    return load_model(scenario_from_dict(raw, "agents.yaml"))


@dataclass(frozen=True)
class There(Policy):
    """To an arm that is known."""

    arm: int

    def choose(self, requests: Requests, arms: Any) -> I64:
        return np.full(len(requests), self.arm)


@pytest.mark.parametrize("policy", ["Always('opus')", BY_LENGTH, f"Sticky({BY_LENGTH}, lost_tokens=30000)"])
@pytest.mark.parametrize("step", [1, 128])
def test_what_a_policy_takes_to_be_warm_is_found(policy: str, step: int) -> None:
    """Turn by turn the account of a policy and the cache of an engine: what has been kept is never overrated, and falls short only
    of what other sessions keep warm of the heads that they share, or of a branch that a session comes back to."""
    model = model_of(step_tokens=step)
    draws = draw(model, 0)
    run, requests = run_once(model, parse_policy(policy), draws), as_requests(model, draws)
    assert requests.turns is not None
    # A cached token costs a dollar, and nothing else does anything.
    counted = {
        name: replace(one, usd=(TokenUsd(0, 0.0, 1.0, 0.0, 0.0),)) for name, one in (requests.costs or {}).items()
    }
    sessions: dict[int, FollowedSession] = {}
    warm = np.zeros(len(requests))
    for k in range(len(requests)):
        one = replace(requests.taken(np.array([k])), costs=counted)
        assert one.turns is not None
        mine = sessions.setdefault(int(one.turns.session[0]), FollowedSession())
        asked = SessionBudget(There(int(run.arm[k])), usd=1e12, at_end="stop")
        place = mine.of_turn(int(one.turns.turn[0]), int(one.prompt_tokens[0]), int(one.turns.reused_tokens[0]))
        before = 0.0 if mine._memory is None else mine._memory.spent[0, 0]
        mine.follow(asked, one, model.arm_names, place)
        assert mine._memory is not None
        warm[k] = mine._memory.spent[0, 0] - before
    found = run.result.cached_tokens[0]
    assert (warm <= found).all()
    assert (warm == found).mean() > 0.95
    assert warm.sum() > 0.85 * requests.prompt_tokens.sum()


def test_sessions_that_end_leave_pairs_that_are_the_same() -> None:
    model = model_of(400)
    draws = draw(model, 0)
    pooled = {}
    for name, usd in (("one", 0.5), ("again", 0.5), ("more", 0.6)):
        policy = parse_policy(f"SessionBudget(Always('opus'), usd={usd}, at_end='stop')")
        run = run_once(model, policy, draws)
        pooled[name] = Pooled(model, [run])
        turns = run.draws.traffic.turn
        assert turns is not None
        session = run.draws.traffic.session
        assert session is not None
        for s in np.unique(session).tolist():  # all turns up to the end
            assert turns[session == s].tolist() == list(range((session == s).sum()))
        said = f"{len(draws) - len(run.arm):,} of 400 turns are not sent: their sessions have spent their budget before"
        assert said in summarize(model, [run], parts=False).notes
    assert Pair(pooled["one"], pooled["again"]).in_step
    assert not Pair(pooled["one"], pooled["more"]).in_step


def test_a_session_that_never_switches_has_one_arm() -> None:
    model = model_of(600)
    draws = draw(model, 0)
    free, never = (run_once(model, parse_policy(one), draws) for one in (BY_LENGTH, f"Sticky({BY_LENGTH}, moves=0)"))
    session = draws.traffic.session
    assert session is not None
    turn = draws.traffic.turn
    assert turn is not None
    first = np.flatnonzero(turn == 0)
    assert never.arm[first].tolist() == free.arm[first].tolist()
    moved = {
        name: sum(len(np.unique(run.arm[session == s])) > 1 for s in np.unique(session))
        for name, run in (("free", free), ("never", never))
    }
    assert moved["never"] == 0 < moved["free"]
