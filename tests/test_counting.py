"""Means where requests are cut off: near the truth from few requests, in every part, and never below what is possible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.intervals import problems
from tests.test_bills import on_problems
from ttc_sim.policies import Policy, Threshold
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

POLICY = Threshold(0.5, "own", "other")


def cut_off(timeout_s: float | None) -> Model:
    """Calls whose attempts have a heavy tail, given up after a while; a few problems think for a hundred times as long."""
    raw = on_problems({"process": "poisson", "rate_per_s": 3.0}, 400)
    raw["deployments"]["api"] |= {"timeout_s": timeout_s}
    raw["deployments"]["pool"] = raw["deployments"]["api"]
    population = problems(60, 4, 3, False)
    made = {}
    for name, attempts in population.attempts.items():
        long = np.repeat(np.arange(len(population)) % 23 == 0, np.diff(attempts.start))
        made[name] = replace(attempts, visible_tokens=np.where(long, 60_000, attempts.visible_tokens).astype(np.int64))
    return load_model(scenario_from_dict(raw), replace(population, attempts=made))


def summary(model: Model, policy: Policy, requests: int, number: int) -> Summary:
    run = run_once(model, policy, draw(model, number, requests=requests))
    assert model.population is not None
    arm = policy.choose(model.population.as_requests(), model.arm_names)
    return summarize(model, [run], expected=expect_arms(model).under(arm))


def test_means_of_requests_that_are_cut_off_are_near_the_truth_in_every_part() -> None:
    model = cut_off(20.0)
    truth = summary(model, POLICY, 200_000, 99)
    few = [summary(model, POLICY, 400, k) for k in range(40)]
    for name in ("per_arm", "per_source", "per_band"):
        parts = getattr(truth, name)
        for key, part in parts.items():
            seen = [getattr(one, name)[key] for one in few]
            for of in ("cost", "tokens"):
                made = np.array([p.cost_usd_per_request.value if of == "cost" else p.tokens_per_request for p in seen])
                true = part.cost_usd_per_request.value if of == "cost" else part.tokens_per_request
                assert (made >= 0).all()
                assert made.mean() == pytest.approx(true, rel=0.05, abs=4 * made.std() / np.sqrt(len(made)))
            right = np.array([p.accuracy.value for p in seen])
            assert right.mean() == pytest.approx(part.accuracy.value, abs=0.02)
    costs = np.array([one.cost_usd_per_request.value for one in few])
    tokens = np.array([one.tokens_per_request["output"].value for one in few])
    # What was planned varies ten times as much: taken off whole, it left costs uncertain by a quarter.
    assert costs.std() < 0.05 * costs.mean()
    assert tokens.std() < 0.05 * tokens.mean()


@pytest.mark.parametrize("timeout_s", [None, 8.0, 20.0])
def test_parts_add_up_whatever_is_cut_off(timeout_s: float | None) -> None:
    model = cut_off(timeout_s)
    price = model.prices[model.deployment_names.index("api")]
    assert price is not None
    for number in range(8):
        found = summary(model, POLICY, 60, number)
        for name in ("per_arm", "per_source", "per_band"):
            parts = getattr(found, name).values()
            assert sum(p.share for p in parts) == pytest.approx(1)
            cost = sum(p.share * p.cost_usd_per_request.value for p in parts)
            assert cost == pytest.approx(found.cost_usd_per_request.value, rel=1e-9)
            assert sum(p.share * p.tokens_per_request for p in parts) == pytest.approx(
                found.tokens_per_request["output"].value, rel=1e-9
            )
        tokens = found.tokens_per_request
        bill = tokens["prompt"].value * 1e-6 + tokens["reasoning"].value * 2e-6 + tokens["visible"].value * 5e-6
        assert found.cost_usd_per_request.value == pytest.approx(bill, rel=1e-9)


def test_requests_that_all_go_as_planned_leave_no_chance() -> None:
    """From ten requests as from a thousand: what is expected over all problems."""
    model = cut_off(None)
    for one in (summary(model, POLICY, 10, 0), summary(model, POLICY, 1000, 1)):
        expected = expect_arms(model).under(POLICY.choose(model.population.as_requests(), model.arm_names))  # type: ignore[union-attr]
        assert model.population is not None
        assert one.cost_usd_per_request.value == pytest.approx(model.population.weight @ expected["api_cost_usd"])
