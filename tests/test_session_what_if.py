"""Ready-made variations of sessions: what each changes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.whatif import CarriedOut
from ttc_sim.policies import parse_policy
from ttc_sim.scenario import Scenario, scenario_from_dict, with_changes

SPEED = {"first_token": {"median_s": 0.6}, "per_token": {"median_s": 0.006}}
PRICE = {"input_usd_per_mtok": 1.0, "cached_input_usd_per_mtok": 0.1, "output_usd_per_mtok": 5.0}
POOL = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 4.0,
    "max_num_batched_tokens": 8192,
    "step_time": {"base_s": 0.012, "per_prefill_token_s": 1e-6, "per_sequence_s": 2e-4, "per_kv_token_s": 1e-9},
}
BY_LENGTH = "Banded(edges=[60000], arms=['mini', 'own'], score='prompt_tokens')"


def scenario(policy: str = BY_LENGTH, **changes: Any) -> Scenario:
    begin = {"process": "poisson", "rate_per_s": 0.002}
    raw = {
        "name": "agents",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "sessions", "sessions": "coding-agent", "starts": begin},
            "requests": 700,
        },
        "deployments": {"api": {"kind": "api", "price": PRICE, "cache": {"provider": "openai"}, **SPEED}, "pool": POOL},
        "arms": {"mini": {"deployment": "api"}, "own": {"deployment": "pool"}},
        "policy": policy,
        **changes,
    }
    return scenario_from_dict(raw)


def varied(given: Scenario, ready: dict[str, object]) -> CarriedOut:
    return ttc.what_if(given, {"x": ready}).variations[0].kept


def test_sessions_that_never_switch() -> None:
    by_turn = "Banded(edges=[5], arms=['mini', 'own'], score='turn')"
    found = varied(scenario(by_turn), {"ready.switch": "never"}).compared
    assert found["switches_per_session"].before.value > 0
    assert found["switches_per_session"].after.value == 0
    assert found["switches_per_session"].more_than_noise
    # Every conversation begins with its first turn, so all stay where those go.
    alone = ttc.simulate(scenario("Always('mini')")).summary()
    assert found["cost_usd_per_request"].after.value == pytest.approx(alone.cost_usd_per_request.value)
    assert alone.sessions is not None
    assert found["usd_per_session"].after.value == pytest.approx(alone.sessions.usd.value)
    assert found["cached_share"].after.value == pytest.approx(alone.sessions.cached_share.value)


def test_a_switch_that_is_undone_is_the_base() -> None:
    sticky = scenario(f"Sticky(policy={BY_LENGTH}, moves=0)")
    ready = {"a": {"ready.switch": "freely"}, "b": {"ready.switch": "if-it-pays"}}
    found = ttc.what_if(sticky, ready).variations
    assert [one.changes[1].now for one in found] == [repr(parse_policy(BY_LENGTH)), f"Sticky(policy={BY_LENGTH})"]
    plain = ttc.simulate(scenario()).summary()
    assert found[0].kept.compared["cost_usd_per_request"].after.value == plain.cost_usd_per_request.value


def test_caches_that_are_off_or_keep_for_longer() -> None:
    off = varied(scenario(), {"ready.cache": "off"}).compared
    longer = varied(scenario(), {"ready.cache-ttl": 86400}).compared
    assert off["cached_share"].after.value == 0
    assert longer["cached_share"].difference.value > 0
    for one in (off, longer):
        assert one["prompt_tokens_per_request"].difference.value == 0
        assert one["switches_per_session"].difference.value == 0
    assert off["latency_mean_s"].difference.value > 0  # what a pool does not find it takes in anew


def test_contexts_that_are_made_shorter() -> None:
    (found,) = ttc.what_if(scenario("Always('mini')"), {"x": {"ready.compact": 150_000}}).variations
    assert found.kept.compared["prompt_tokens_per_request"].difference.value < 0
    path, left = "workload.arrivals.compact", {"above_tokens": 150_000, "to_tokens": 30_000}
    assert {one.path: one.now for one in found.changes} == {"ready.compact": 150_000, path: left}
    assert any("made shorter, to 30,000" in note for note in found.notes)
    shorter = with_changes(scenario("Always('mini')"), {path: left})
    assert np.quantile(ttc.simulate(shorter).records["prompt_tokens"].to_numpy(), 0.9) <= 150_000
    again = varied(shorter, {"ready.compact": "none"}).compared
    assert again["prompt_tokens_per_request"].difference.value > 0
    # What is left of a context stays as the scenario has it.
    (longer,) = ttc.what_if(shorter, {"x": {"ready.compact": 90_000}}).variations
    assert longer.changes[1].now == {"above_tokens": 90_000, "to_tokens": 30_000}


STEADY = {"arrivals": {"process": "poisson", "rate_per_s": 1.0}, "lengths": {"prompt_tokens": 9, "output_tokens": 9}}


@pytest.mark.parametrize(
    ("changes", "ready", "says"),
    [
        ({}, {"ready.compact": 3}, "a whole number of prompt tokens, from 5"),
        ({"workload": {**STEADY, "requests": 5}}, {"ready.compact": 1000}, "arrivals of sessions"),
        ({"workload": {**STEADY, "requests": 5}}, {"ready.switch": "never"}, "arrivals of sessions"),
        ({}, {"ready.switch": "often"}, "never, freely or if-it-pays"),
        ({}, {"ready.switch": "freely"}, "another way to switch than the policy's own"),
        ({"policy": "LeastLoaded(arms=['mini', 'own'])"}, {"ready.switch": "never"}, "looks at each turn alone"),
        ({}, {"ready.cache": "on"}, "off; another time to live"),
        ({}, {"ready.cache-ttl": 0}, "seconds above 0"),
        ({}, {"ready.cache:mini": "off"}, "it is not of an arm"),
    ],
)
def test_what_cannot_be_varied(changes: dict[str, Any], ready: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        varied(scenario(**changes), ready)
