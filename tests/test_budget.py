"""Hard budgets a day: scenarios that can be worked out on paper, what is said of them, plans, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.conftest import ROOT
from tests.test_errors import IN_USD, OUT_USD, OUTPUT, PROMPT, api, one_a_second
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.scenario import first_turn_s, scenario_from_dict, with_changes
from ttc_sim.simulation.result import Result, simulate

CALL_USD = PROMPT * IN_USD + OUTPUT * OUT_USD
CHEAP_USD = CALL_USD / 10
DAY_S = 86400.0


def paper(at_end: str, usd_per_day: float = 3 * CALL_USD, requests: int = 10, **more: Any) -> dict[str, Any]:
    """Requests at 1 s, 2 s, ..., each a call of 4 s; arm a is dear, b a tenth of that."""
    cheap = {"input_usd_per_mtok": 1e6 * IN_USD / 10, "output_usd_per_mtok": 1e6 * OUT_USD / 10}
    to = {"to": "b"} if at_end == "degrade" else {}
    return one_a_second(
        requests,
        deployments={"d": api(**more.pop("endpoint", {})), "e": api(price=cheap)},
        arms={"a": {"deployment": "d"}, "b": {"deployment": "e"}},
        policy="Always('a')",
        budget={"usd_per_day": usd_per_day, "at_end": at_end, **to, **more.pop("budget", {})},
        **more,
    )


def run(raw: dict[str, Any], **given: Any) -> Result:
    return simulate(scenario_from_dict(raw), **given)


# -------------------------------------------------------------------------------------------------------- on paper


def test_the_moment_of_exhaustion_who_is_refused_and_the_bill() -> None:
    """The third call ends at 7 s: who comes at that moment comes after it; those of 4, 5 and 6 s are under way, and finished."""
    result = run(paper("refuse"))
    rows = result.records
    assert rows["status"].to_list() == ["completed"] * 6 + ["rejected"] * 4
    assert rows["refused"].to_list() == [False] * 6 + [True] * 4
    assert rows["sent_s"].to_list() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None, None, None, None]
    assert rows["finished_s"].to_list() == [*np.arange(5.0, 11.0), *np.arange(7.0, 11.0)]
    assert rows["cost_usd"].to_list() == pytest.approx([CALL_USD] * 6 + [0.0] * 4)
    summary = result.summary()
    assert summary.budget is not None
    assert summary.budget.all is not None
    [day] = summary.budget.all.days
    assert day.exhausted_s == day.earliest_s == day.latest_s == 7.0
    assert day.spent_usd.value == pytest.approx(6 * CALL_USD, rel=1e-6)
    assert (summary.budget.all.refused.value, summary.rejected_rate.value) == (0.4, 0.4)
    assert summary.budget.all.degraded.value == summary.budget.all.queued.value == 0.0
    # No deployment is to blame.
    assert (summary.verdict, summary.longest_wait_s) == ("stable", 0.0)
    over = result.over_time(4.0)
    assert over["refused"].to_list() == [0.0, 1.0, 3.0]
    assert over["spent_usd"].to_list() == pytest.approx([0.0, 3 * CALL_USD, 3 * CALL_USD], rel=1e-6)
    assert over["usd"].to_list() == pytest.approx([3 * CALL_USD, 3 * CALL_USD, 0.0])


def test_who_waits_is_sent_on_as_the_day_begins() -> None:
    """All at once, and finished: the day after has its own budget, which the third of the four exhausts."""
    result = run(paper("queue"))
    rows = result.records
    assert rows["status"].to_list() == ["completed"] * 10
    assert rows["queued"].to_list() == [False] * 6 + [True] * 4
    assert rows["finished_s"].to_list() == [*np.arange(5.0, 11.0), *[DAY_S + 4] * 4]
    assert rows["latency_s"].to_list()[6:] == [DAY_S + 4 - s for s in (7.0, 8.0, 9.0, 10.0)]
    assert rows["ttft_s"].to_list()[6:] == [DAY_S + 1 - s for s in (7.0, 8.0, 9.0, 10.0)]
    summary = result.summary()
    assert summary.budget is not None
    assert summary.budget.all is not None
    first, second = summary.budget.all.days
    assert (first.exhausted_s, second.exhausted_s) == (7.0, DAY_S + 4)
    assert second.spent_usd.value == pytest.approx(4 * CALL_USD, rel=1e-6)
    assert (second.begins_s, second.ends_s, second.covered) == (DAY_S, 2 * DAY_S, 0.0)
    assert (summary.verdict, summary.longest_wait_s) == ("stable", 0.0)
    assert any("4 requests a run wait for a day to end" in note for note in summary.notes)


def test_who_is_degraded_is_billed_beyond_the_budget() -> None:
    result = run(paper("degrade"))
    rows = result.records
    assert rows["status"].to_list() == ["completed"] * 10
    assert rows["arm"].to_list() == ["a"] * 10
    assert rows["answered_by"].to_list() == ["a"] * 6 + ["b"] * 4
    assert rows["cost_usd"].to_list() == pytest.approx([CALL_USD] * 6 + [CHEAP_USD] * 4)
    summary = result.summary()
    assert summary.budget is not None
    assert summary.budget.all is not None
    assert summary.budget.all.spent_usd == pytest.approx(6 * CALL_USD + 4 * CHEAP_USD, rel=1e-6)
    assert summary.cost_usd_per_request.value == pytest.approx((6 * CALL_USD + 4 * CHEAP_USD) / 10)
    # Of an arm's requests so many were answered by another one, as with fallbacks.
    shares = {name: (part.share, part.fallback_share, part.answered_share) for name, part in summary.per_arm.items()}
    assert shares == {"a": (1.0, 0.4, 0.6), "b": (0.0, 0.0, 0.4)}


def test_a_budget_that_a_bill_meets_exactly_is_exhausted_by_it() -> None:
    """Ten bills of $0.1 are a dollar, though ten of these numbers add up to less."""
    raw = paper("refuse", 1.0, 30)
    raw["workload"]["arrivals"]["rate_per_s"] = 0.125  # one call after another
    raw["deployments"]["d"]["price"] = {"input_usd_per_mtok": 1000.0, "output_usd_per_mtok": 0.0}
    assert [row["status"] for row in run(raw).records.to_dicts()] == ["completed"] * 10 + ["rejected"] * 20


def test_a_day_begins_when_the_workloads_clock_has_it() -> None:
    """The run starts at 23:00 and resets at midnight: an hour is left of the first day."""
    shape = {"by_hour": [1.0] * 24, "starts": "23:00"}
    raw = paper("refuse", 1.5 * CALL_USD, 30)
    raw["workload"]["arrivals"] = {"process": "even", "rate_per_s": 1 / 600, "shape": shape}
    scenario = scenario_from_dict(raw)
    assert first_turn_s(scenario) == 3600.0
    rows = simulate(scenario).records
    # Two calls exhaust it; at 1 h another day begins.
    assert rows["status"].to_list() == ["completed"] * 2 + ["rejected"] * 3 + ["completed"] * 2 + ["rejected"] * 23
    assert first_turn_s(with_changes(scenario, {"budget.resets": "22:30"})) == 23.5 * 3600
    assert first_turn_s(with_changes(scenario, {"budget.resets": "23:00"})) == DAY_S


def test_over_several_days_each_has_its_own_budget_and_an_empty_one_spends_nothing() -> None:
    """Three requests an hour on the first, third and fourth day, of which a budget of five calls lets the first five through."""
    raw = paper("refuse", 5 * CALL_USD)
    steps = [{"duration_s": DAY_S, "rate_per_s": rate / 3600} for rate in (3.0, 0.0, 3.0, 3.0)]
    raw["workload"]["arrivals"] = {"process": "piecewise", "steps": steps}
    raw["workload"]["duration"] = "4 d"
    del raw["workload"]["requests"]
    result = run(raw, replications=3)
    budget = result.summary().budget
    assert budget is not None
    assert budget.all is not None
    spent = [day.spent_usd.value for day in budget.all.days]
    assert spent[1] == 0.0
    assert [round(spent[day] / CALL_USD, 6) for day in (0, 2, 3)] == [5.0, 5.0, 5.0]
    assert [day.exhausted_rate for day in budget.all.days] == [1.0, 0.0, 1.0, 1.0]
    assert [day.covered for day in budget.all.days] == [1.0] * 4
    assert not any("of which a run covers" in note for note in result.summary().notes)
    for one in result.runs:
        day = (one.result.arrival_s // DAY_S).astype(int)
        done = one.result.status == 0
        assert np.bincount(day[done], minlength=4).tolist() == [5, 0, 5, 5]


def test_time_at_the_gateway_counts_against_the_deadline_and_not_the_timeout() -> None:
    """A request of 7 s gives up 100 s later, for good; without a deadline it is answered, in 4 of its 5 seconds."""
    got = run(paper("queue", endpoint={"timeout_s": 5.0})).records
    assert got["status"].to_list() == ["completed"] * 10
    got = run(paper("queue", endpoint={"timeout_s": 5.0, "deadline_s": 100.0})).records
    assert got["status"].to_list() == ["completed"] * 6 + ["timed_out"] * 4
    assert got["finished_s"].to_list()[6:] == [107.0, 108.0, 109.0, 110.0]
    assert got["queued"].to_list()[6:] == [True] * 4
    assert got["sent_s"].to_list()[6:] == [None] * 4


def test_of_two_budgets_the_stricter_rule_holds_and_the_sources_own_arm() -> None:
    """That of source x is exhausted at 7 s by three calls, and refuses; that of all by five at 10 s, and degrades."""
    raw = paper("degrade", 5 * CALL_USD, 24)
    lengths = raw["workload"].pop("lengths")
    raw["workload"] = {
        "requests": 24,
        "sources": {
            name: {"lengths": lengths, "arrivals": {"process": "even", "rate_per_s": 0.5}} for name in ("x", "y")
        },
    }
    raw["budget"]["sources"] = {"x": {"usd_per_day": 2 * CALL_USD, "at_end": "refuse"}}
    rows = run(raw).records
    by = {name: rows.filter(pl.col("source") == name) for name in ("x", "y")}
    x, y = by["x"], by["y"]
    # Those of x come at 2, 4, ... s and end 4 s later: the second ends at 8 s, as the fourth comes.
    assert x["status"].to_list() == ["completed"] * 3 + ["rejected"] * 9
    # The fourth call of all ends at 8 s, the fifth, of y or x, at 10 s.
    assert y["degraded"].to_list() == [False] * 4 + [True] * 8
    assert y["status"].to_list() == ["completed"] * 12


def test_what_goes_to_a_pool_passes_whatever_was_spent() -> None:
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "max_num_seqs": 64}
    step = {"base_s": 0.01, "per_prefill_token_s": 0.0, "per_sequence_s": 0.0, "per_kv_token_s": 0.0}
    raw = paper("refuse", CALL_USD, 12)
    raw["deployments"]["p"] = {**pool, "step_time": step}
    raw["arms"]["p"] = {"deployment": "p"}
    raw["policy"] = "LeastLoaded(arms=['a', 'p'])"
    rows = run(raw).records
    assert rows.filter(pl.col("arm") == "p")["refused"].sum() == 0
    assert rows.filter(pl.col("arm") == "a")["refused"].sum() > 0
    raw["policy"] = "Always('p')"
    assert not run(raw).records["refused"].any()


def test_a_policy_in_python_meets_the_same_budget_as_its_rule() -> None:
    """By the reference engine, and by the compiled one."""
    for at_end in ("refuse", "queue", "degrade"):
        raw = paper(at_end, 4 * CALL_USD, 40)
        raw["arms"]["c"] = {"deployment": "e"}
        by_rule = run({**raw, "policy": "LeastLoaded(arms=['a', 'c'])"})

        def least(request: Any, load: Any) -> str:
            return "a" if load.in_progress["d"] <= load.in_progress["e"] else "c"

        by_hand = simulate(scenario_from_dict(raw), least)
        for name in ("arm", "status", "finished_s", "degraded", "queued", "refused", "sent_s"):
            assert by_rule.records[name].to_list() == by_hand.records[name].to_list(), (at_end, name)
        assert by_rule.records["arm"].n_unique() == 2


# ---------------------------------------------------------------------------------------------------------- accuracy


@pytest.fixture(scope="module")
def gateway() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((ROOT / "scenarios" / "reasoning-gateway.yaml").read_text())
    raw["workload"]["requests"], raw["replications"] = 600, 3
    return {**raw, "policy": "Always('r1')"}


def test_degraded_answers_are_what_the_other_arm_makes_of_the_problem(gateway: dict[str, Any]) -> None:
    where = str(ROOT / "scenarios" / "reasoning-gateway.yaml")
    budget = {"usd_per_day": 0.5, "at_end": "degrade", "to": "maverick"}
    sources = {"research": {"usd_per_day": 0.1, "at_end": "refuse"}}
    raw = {**gateway, "budget": {**budget, "sources": sources}}
    result = simulate(scenario_from_dict(raw, where))
    alone = {
        name: simulate(scenario_from_dict({**gateway, "policy": f"Always('{name}')"}, where)).records
        for name in ("r1", "maverick")
    }
    rows = result.records
    degraded, refused = rows["degraded"].to_numpy(), rows["refused"].to_numpy()
    assert min(degraded.sum(), refused.sum(), (~degraded & ~refused).sum()) > 100
    for name, here in (("maverick", degraded), ("r1", ~degraded & ~refused)):
        for column in ("correct", "cost_usd", "latency_s", "prompt_tokens", "visible_tokens", "reasoning_tokens"):
            np.testing.assert_array_equal(rows[column].to_numpy()[here], alone[name][column].to_numpy()[here])
    assert not rows["correct"].to_numpy()[refused].any()
    assert (rows["status"].to_numpy()[refused] == "rejected").all()
    # What is expected of problems only takes noise out of the figures.
    summary = result.summary()
    assert summary.accuracy is not None
    assert summary.accuracy.low < rows["correct"].mean() < summary.accuracy.high  # type: ignore[operator]
    assert summary.accuracy.value == pytest.approx(rows["correct"].mean(), abs=0.03)
    assert summary.cost_usd_per_request.value == pytest.approx(rows["cost_usd"].mean(), rel=0.1)
    parts = summary.per_source
    total = sum(one.share * one.accuracy.value for one in parts.values() if one.accuracy is not None)
    assert total == pytest.approx(summary.accuracy.value, abs=1e-9)
    # Counted and billed are the same, to a billionth of a dollar a call.
    assert summary.budget is not None
    assert summary.budget.all is not None
    billed = rows["cost_usd"].sum() / 3
    assert summary.budget.all.spent_usd == pytest.approx(billed, abs=600e-9)
    research = rows.filter(pl.col("source") == "research")
    assert summary.budget.sources["research"].spent_usd == pytest.approx(research["cost_usd"].sum() / 3, abs=600e-9)
    assert summary.budget.sources["research"].refused.value == pytest.approx(research["refused"].mean())
    over = result.over_time(30.0, by="source").group_by("source").agg(pl.col("spent_usd", "degraded", "refused").sum())
    mine = over.filter(pl.col("source") == "research").to_dicts()[0]
    assert mine["refused"] == pytest.approx(research["refused"].sum() / 3)


def test_a_budget_that_nobody_spends_changes_no_byte(gateway: dict[str, Any]) -> None:
    where = str(ROOT / "scenarios" / "reasoning-gateway.yaml")
    plain = simulate(scenario_from_dict(gateway, where)).summary().as_json()
    for rest in ({"at_end": "refuse"}, {"at_end": "queue"}):
        raw = {**gateway, "budget": {"usd_per_day": 1e9, **rest}}
        found = simulate(scenario_from_dict(raw, where)).summary().as_json()
        found["notes"] = tuple(note for note in found["notes"] if "budget" not in note)  # type: ignore[attr-defined]
        del found["budget"]
        assert json.dumps(found) == json.dumps(plain)


# ------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_keeps_within_a_budget_whose_end_its_runs_do_not_show(gateway: dict[str, Any], tmp_path: Path) -> None:
    """Unlimited it spends $1,560 a day; runs of five minutes never come to the end of a day's budget."""
    where = str(ROOT / "scenarios" / "reasoning-gateway.yaml")
    limit = 500.0
    raw = {**gateway, "targets": {"maximize": "accuracy"}, "search": {"bands": 4, "scores": ["difficulty"]}}
    raw["budget"] = {"usd_per_day": limit, "at_end": "degrade", "to": "maverick"}
    raw["arms"] = {name: arm for name, arm in raw["arms"].items() if name in ("r1", "maverick")}
    del raw["policy"]
    raw["replications"] = 2
    plan = ttc.optimize(scenario_from_dict(raw, where))
    assert plan.status == "met"
    [check] = [one for one in plan.checks if one.name == "budget"]
    assert check.holds
    assert 0.5 * limit < check.promised.value < limit
    assert plan.predicted.budget is not None
    assert any("hard budget" in note for note in plan.predicted.notes)
    plan.save(tmp_path / "plan.yaml")
    saved = ttc.load_plan(tmp_path / "plan.yaml").scenario
    assert saved.budget == plan.scenario.budget
    spent = simulate(saved).records["cost_usd"].sum()
    assert spent > 0


def test_other_commands_honour_it(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(paper("refuse")))
    runner = CliRunner()
    got = runner.invoke(app, ["simulate", str(file)])
    assert got.exit_code == 0, got.output
    said = " ".join(got.output.split())
    assert "Budget by day" in said
    assert "then refuse" in said
    assert "0:00:07" in said
    got = runner.invoke(app, ["simulate", str(file), "--json", str(tmp_path / "s.json")])
    found = json.loads((tmp_path / "s.json").read_text())["budget"]["all"]
    assert found["days"][0]["exhausted_s"] == 7.0
    assert found["refused"]["value"] == 0.4
    changed = ttc.what_if(str(file), {"more": {"budget.usd_per_day": "2x"}})
    base, more = (one.as_json()["rejected_rate"] for one in _summaries(changed))
    assert (base["value"], more["value"]) == (0.4, 0.1)


STEP = {"base_s": 0.02, "per_prefill_token_s": 0.0, "per_sequence_s": 0.001, "per_kv_token_s": 0.0}
POOL = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 2.0, "max_num_seqs": 8, "step_time": STEP}


def degrading_to_a_pool(**more: Any) -> dict[str, Any]:
    """At the rate of these requests $2 a day is spent in a few minutes: all that come after are the pool's."""
    raw = paper("degrade", 40 * CALL_USD, 600, **more)
    raw["workload"]["arrivals"] = {"process": "poisson", "rate_per_s": 2.0}
    raw["deployments"]["e"] = POOL
    return {**raw, "replications": 2}


def test_capacity_is_for_those_that_a_budget_degrades() -> None:
    """The pool is the arm of nobody until then, and has to be large enough for all."""
    targets = {"minimize": "cost", "latency_p95_s": 6.0}
    raw = degrading_to_a_pool(targets=targets, search={"replicas": {"e": [1, 2, 3, 4]}})
    found = ttc.capacity(scenario_from_dict(raw))
    assert found.status == "met"
    replicas = found.scenario.deployments["e"].replicas  # type: ignore[union-attr]
    for count, held in ((replicas, True), (replicas - 1, False)):
        if count:
            summary = simulate(with_changes(scenario_from_dict(raw), {"deployments.e.replicas": count})).summary()
            assert (summary.latency_s["p95"].value <= 6.0) is held
            assert summary.replicas == {"e": count}
    del raw["budget"]
    assert "e" not in simulate(scenario_from_dict(raw)).summary().replicas


def test_a_plan_for_traffic_alone_keeps_within_a_budget_or_says_what_is_missing() -> None:
    raw = degrading_to_a_pool(targets={"minimize": "latency_p95_s"}, search={"replicas": {"e": [4]}})
    raw["deployments"]["e"] = {**POOL, "step_time": {**STEP, "base_s": 0.25}}  # slower than the endpoint
    plan = ttc.optimize(scenario_from_dict(raw))
    checks = {check.name: check for check in plan.checks}
    assert checks["budget"].holds
    assert "Always(arm='b')" in str(plan.scenario.policy)
    without = {**raw, "budget": None}
    assert "Always(arm='a')" in str(ttc.optimize(scenario_from_dict(without)).scenario.policy)
    refusing = {**raw, "budget": {"usd_per_day": 1.0, "at_end": "refuse"}}
    with pytest.raises(InputError, match="a budget may refuse all"):
        ttc.optimize(scenario_from_dict(refusing))


def test_an_arm_on_a_pool_whose_verifier_bills_calls_counts(gateway: dict[str, Any]) -> None:
    where = str(ROOT / "scenarios" / "reasoning-gateway.yaml")
    raw = {**gateway, "policy": "Always('mistral')", "budget": {"usd_per_day": 1e-4, "at_end": "refuse"}}
    raw["replications"] = 1
    assert not simulate(scenario_from_dict(raw, where)).records["refused"].any()
    judged = {**raw["arms"]["mistral"], "strategy": "BestOfN(n=2, auroc=0.8, verifier='maverick-api')"}
    raw["arms"] = {**raw["arms"], "mistral": judged}
    raw["search"] = {}
    assert simulate(scenario_from_dict(raw, where)).records["refused"].mean() > 0.5  # type: ignore[operator]


def _summaries(found: Any) -> list[Any]:
    return [found.base.summary, *(one.kept.summary for one in found.variations)]


# --------------------------------------------------------------------------------------------------------- bad input


def with_sources(raw: dict[str, Any], **arms: Any) -> dict[str, Any]:
    lengths = raw["workload"].pop("lengths")
    raw["workload"]["sources"] = {"x": {"lengths": lengths}, "y": {"lengths": lengths}}
    raw["arms"] = {name: {**raw["arms"][name], **arms.get(name, {})} for name in raw["arms"]}
    return raw


@pytest.mark.parametrize(
    ("budget", "field", "expected"),
    [
        ({"usd_per_day": 0, "at_end": "refuse"}, "budget.usd_per_day", "greater than 0"),
        ({"usd_per_day": -5.0, "at_end": "refuse"}, "budget.usd_per_day", "greater than 0"),
        ({"usd_per_day": float("inf"), "at_end": "refuse"}, "budget.usd_per_day", ""),
        ({"usd_per_day": 5.0}, "budget.at_end", "degrade, queue or refuse"),
        ({"usd_per_day": 5.0, "at_end": "stop"}, "budget.at_end", "refuse"),
        ({"at_end": "refuse"}, "budget.usd_per_day", "beside at_end"),
        ({"usd_per_day": 5.0, "at_end": "degrade"}, "budget.to", "the arm that requests go to instead"),
        ({"usd_per_day": 5.0, "at_end": "refuse", "to": "b"}, "budget.to", "no arm beside at_end: refuse"),
        ({"usd_per_day": 5.0, "at_end": "degrade", "to": "bb"}, "budget.to", "b"),
        ({"usd_per_day": 5.0, "at_end": "degrade", "to": "b"}, "budget.to", "offered to source y"),
        ({"sources": {"z": {"usd_per_day": 5.0, "at_end": "refuse"}}}, "budget.sources", "x"),
        ({"sources": {"x": {"at_end": "refuse"}}}, "budget.sources.x.usd_per_day", ""),
        ({"sources": {"x": {"usd_per_day": 1.0}}}, "budget.sources.x.at_end", "degrade, queue or refuse"),
        ({"sources": {}}, "budget", "usd_per_day with at_end"),
        ({"usd_per_day": 5.0, "at_end": "queue", "resets": "24:00"}, "budget.resets", "'06:00'"),
        ({"usd_per_day": 5.0, "at_end": "queue", "resets": 360}, "budget.resets", "'06:00'"),
        ({"usd_per_day": 5.0, "at_end": "queue", "reset": "06:00"}, "budget", "resets"),
        ({"sources": {"y": {"usd_per_day": 1.0, "at_end": "degrade", "to": "a"}}}, "budget.sources.y.to", "only one"),
    ],
)
def test_bad_budgets_are_refused_with_one_line(budget: dict[str, Any], field: str, expected: str) -> None:
    raw = with_sources(paper("refuse"), b={"sources": ["x"]})
    with pytest.raises(InputError) as error:
        scenario_from_dict({**raw, "budget": budget})
    assert error.value.field == field, str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_budget_that_could_limit_nothing_is_refused() -> None:
    raw = paper("degrade")
    raw["arms"] = {"b": raw["arms"]["b"]}
    raw["policy"] = "Always('b')"
    with pytest.raises(InputError, match="only one"):
        scenario_from_dict(raw)
    pool = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0}
    step = {"base_s": 0.01, "per_prefill_token_s": 0.0, "per_sequence_s": 0.0, "per_kv_token_s": 0.0}
    raw = paper("refuse")
    raw["deployments"] = {name: {**pool, "step_time": step} for name in ("d", "e")}
    with pytest.raises(InputError, match="an API among the deployments"):
        scenario_from_dict(raw)
    shapes = [{"by_hour": [1.0] * 24, "starts": starts} for starts in ("08:00", "09:00")]
    raw = with_sources(paper("refuse"))
    del raw["workload"]["arrivals"]
    for source, shape in zip(raw["workload"]["sources"].values(), shapes, strict=True):
        source["arrivals"] = {"process": "poisson", "rate_per_s": 1.0, "shape": shape}
    with pytest.raises(InputError, match="time of day that the others start at, 08:00"):
        scenario_from_dict(raw)
