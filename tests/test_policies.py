"""Policies that look at more than a request's scores: at live load, at the clock."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import ttc_sim as ttc
from tests.test_scenario import changed
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.policies import Always, LeastLoaded, Overflow, Policy, Requests, parse_policy
from ttc_sim.scenario import scenario_from_dict


@dataclass(frozen=True)
class ByTheClock(Policy):
    """The large model for the first hundred seconds."""

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        return np.where(requests.arrival_s < 100, list(arms).index("large"), list(arms).index("small"))


@pytest.mark.parametrize(
    "policy", [Overflow(["small", "large"], waiting=1), LeastLoaded(["small", "large"]), ByTheClock()], ids=repr
)
def test_figures_are_those_of_the_arms_that_answered(policy: Policy) -> None:
    raw = changed("workload.requests", 1500)
    raw["workload"]["arrivals"]["rate_per_s"] = 5.0
    raw["deployments"]["pool"] |= {"max_num_seqs": 4, "max_num_batched_tokens": 64}
    result = ttc.simulate(scenario_from_dict(raw), policy, replications=2)
    summary, records = result.summary(), result.records
    assert {"small", "large"} == set(records["arm"].unique())
    assert summary.accuracy is not None
    assert summary.accuracy.value == pytest.approx(float(np.mean(records["correct"].to_numpy())), abs=1e-9)
    assert summary.cost_usd_per_request.value == pytest.approx(float(records["cost_usd"].to_numpy().mean()), rel=1e-9)


def test_a_policy_of_the_scores_alone_is_judged_by_expectation() -> None:
    """The draws' own noise is taken out where all requests on a problem go to one arm."""
    scenario = scenario_from_dict(changed("workload.requests", 300))
    few, many = (ttc.simulate(scenario, Always("large"), requests=n, replications=2).summary() for n in (300, 3000))
    assert few.accuracy is not None
    assert many.accuracy is not None
    assert few.accuracy.value == pytest.approx(many.accuracy.value, abs=1e-12)


def test_a_function_that_leaves_does_not_end_what_calls_it() -> None:
    def leaves(request: object) -> str:
        raise SystemExit(0)

    with pytest.raises(InputError, match="SystemExit: 0"):
        ttc.simulate(scenario_from_dict(changed("workload.requests", 20)), leaves, replications=1)


def test_a_live_function_that_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "route.py").write_text("def by_load(request, load):\n    return load.nowhere\n")
    policy = parse_policy("route.py:by_load", where="s.yaml", field="policy", folder=tmp_path, allow_code=True)
    with pytest.raises(InputError, match=r"route\.py:by_load: policy, request 0: .*no attribute 'nowhere'"):
        ttc.simulate(scenario_from_dict(changed("workload.requests", 20)), policy, replications=1)


def test_an_error_comes_whole_out_of_another_process() -> None:
    error = pickle.loads(pickle.dumps(InputError("s.yaml", "policy", 5, "an arm")))
    assert str(error) == "s.yaml: policy: got 5; expected an arm"
    assert (error.where, error.field, error.value, error.expected) == ("s.yaml", "policy", 5, "an arm")
