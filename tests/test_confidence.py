"""Targets that hold with a confidence: what it is asked for, how often they are missed on fresh problems, what it costs."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from scipy.stats import beta, binom, norm
from typer.testing import CliRunner

import ttc_sim as ttc
from benchmarks.confidence import ACCURACY, BUDGET, Case, Held, kept, missed, planned, world
from benchmarks.intervals import problems
from tests.test_optimizer import gateway
from ttc_sim.base import intervals
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.intervals import Variance
from ttc_sim.cli import app
from ttc_sim.optimizer.chances import chance_of_at_most
from ttc_sim.optimizer.cross_validating import beside_realized
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.promises import TargetCheck, check_targets
from ttc_sim.reporting.text import print_plan
from ttc_sim.scenario import Targets, scenario_from_dict
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.summary import Summary

# ------------------------------------------------------------------------------------------------- what is asked for


def confidences(**targets: Any) -> dict[str, float]:
    asked = scenario_from_dict(gateway(targets={"minimize": "cost", "accuracy": 0.5, **targets})).targets
    assert asked is not None
    return {one.name: one.confidence for one in asked.asked()}


def test_a_target_has_its_own_confidence_or_that_of_its_source_or_that_of_all() -> None:
    assert confidences() == {"accuracy": 0.8}
    assert confidences(confidence=0.95, latency_p95_s=9) == {"accuracy": 0.95, "latency_p95_s": 0.95}
    of_source = {"easy": {"accuracy": 0.4, "timeout_rate": 0.1, "confidence": {"accuracy": 0.99}}}
    assert confidences(confidence={"accuracy": 0.6}, latency_p95_s=9, sources=of_source) == {
        "accuracy": 0.6,
        "latency_p95_s": 0.8,
        "sources.easy.accuracy": 0.99,
        "sources.easy.timeout_rate": 0.8,
    }
    whole = {"easy": {"accuracy": 0.4, "confidence": 0.5}}
    assert confidences(confidence=0.999, sources=whole) == {"accuracy": 0.999, "sources.easy.accuracy": 0.5}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        *(
            ({"confidence": bad}, r"targets\.confidence: got .*0\.5 to 0\.999")
            for bad in (0.49, 0.9991, 1, 0, -1, True)
        ),
        *(
            ({"confidence": bad}, r"targets\.confidence: got .*0\.5 to 0\.999")
            for bad in ("0.9", "high", math.nan, [0.9])
        ),
        ({"confidence": {"accuracy": 1.5}}, r"targets\.confidence: got .*0\.5 to 0\.999 for accuracy"),
        ({"confidence": {"goodput": 0.9}}, r"targets\.confidence\.goodput: got 0\.9.*beside it: accuracy"),
        ({"sources": {"easy": {"accuracy": 0.4, "confidence": 0.2}}}, r"sources\.easy\.confidence: got 0\.2"),
        ({"generalize": "old"}, r"targets\.generalize: got 'old'.*known"),
    ],
)
def test_what_is_no_confidence_is_refused_in_one_line(targets: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        confidences(**targets)
    assert "\n" not in str(caught.value)


def test_traffic_without_problems_has_no_kinds_to_generalize_to() -> None:
    lengths = {"prompt_tokens": 200, "output_tokens": {"median": 120, "p95": 900}}
    raw = gateway(targets={"minimize": "cost", "latency_p95_s": 60, "generalize": "new"})
    raw["workload"] = {"arrivals": raw["workload"]["arrivals"], "requests": 50, "lengths": lengths}
    raw["arms"], raw["search"] = {"only": {"deployment": "mid"}}, {}
    with pytest.raises(InputError, match=r"targets\.generalize: got 'new'; expected none"):
        scenario_from_dict(raw)


# ------------------------------------------------------------------------------------------------------- chances


@pytest.mark.parametrize(("count", "right", "bound"), [(57, 0, 0.02), (400, 30, 0.1), (1000, 650, 0.63), (20, 20, 0.9)])
def test_the_chance_of_a_share_is_that_of_as_many_trials(count: int, right: int, bound: float) -> None:
    """With Wilson's interval of ``count`` trials, the trials are found again, and Jeffreys' limit is theirs."""
    value = right / count
    figure = intervals.share(value, Variance(value * (1 - value) / count), count)
    exact = beta.cdf(bound, right + 0.5, count - right + 0.5)
    assert chance_of_at_most(figure, bound) == pytest.approx(exact, abs=0.02)
    # Over all shares that there may be, a limit of that kind is wrong about as often as it says.
    truth = bound
    counts = np.arange(count + 1)
    chances = np.array([beta.cdf(truth, k + 0.5, count - k + 0.5) for k in counts])
    for level in (0.8, 0.95):
        wrong = float(binom.pmf(counts, count, truth) @ (chances >= level))
        assert wrong <= 1.8 * (1 - level) + 0.02


def test_the_chance_of_a_cost_is_that_of_its_interval() -> None:
    figure = intervals.mean(2.0, Variance(0.01))

    def chance(bound: float) -> float:
        return check(figure, bound, at_least=False).chance

    assert chance(figure.high) == pytest.approx(0.975, abs=1e-6)
    assert chance(figure.low) == pytest.approx(0.025, abs=1e-6)
    assert chance(2.0) == 0.5
    between = [chance(bound) for bound in np.linspace(1.7, 2.4, 40)]
    assert between == sorted(between)
    assert chance(2.1) == pytest.approx(norm.cdf(1.0), abs=0.03)
    exactly = Estimate(2.0, 2.0, 2.0)
    assert check(exactly, 2.0, at_least=False).chance == 1.0
    assert check(exactly, 1.99, at_least=False).chance == 0.0


@cache
def plain() -> Summary:
    """A summary whose figures are put in by hand."""
    scenario = scenario_from_dict(gateway(targets={"maximize": "accuracy"}))
    return ttc.simulate(scenario, "Always('maverick')", requests=20).summary()


def check(figure: Estimate, bound: float, *, at_least: bool) -> TargetCheck:
    """A target of cost, or of accuracy, beside a figure by hand."""
    if at_least:
        (found,) = check_targets(replace(plain(), accuracy=figure), Targets(minimize="cost", accuracy=bound))
    else:
        targets = Targets(maximize="accuracy", cost_usd_per_request=bound)
        (found,) = check_targets(replace(plain(), cost_usd_per_request=figure), targets)
    return found


def test_a_gap_is_what_the_figure_lacks_for_its_confidence() -> None:
    figure = Estimate.around(0.6, 0.05)
    for bound, lacks in ((0.5, 0.0), (0.58, 0.8416 * 0.05 - 0.02), (0.65, 0.8416 * 0.05 + 0.05)):
        found = check(figure, bound, at_least=True)
        assert found.holds == (lacks == 0)
        assert found.gap == pytest.approx(lacks, abs=0.002)
        assert found.miss == pytest.approx(found.gap / bound)


# ------------------------------------------------------------------------------------------------- known and new kinds


def test_known_kinds_are_problems_within_kinds_and_new_ones_whole_kinds() -> None:
    """What ``generalize`` asks for is what simulation tells apart anyway."""
    raw = gateway(targets={"minimize": "cost", "accuracy": 0.5})
    found = {}
    for generalize in (None, "known", "new"):
        raw["targets"]["generalize"] = generalize
        raw["targets"] = {key: value for key, value in raw["targets"].items() if value is not None}
        found[generalize] = ttc.simulate(scenario_from_dict(raw), "Always('maverick')", replications=3).summary()
    as_the_card_says, known, new = found.values()
    assert new.accuracy == as_the_card_says.accuracy
    assert known.accuracy is not None
    assert new.accuracy is not None
    assert known.accuracy.value == new.accuracy.value
    assert known.accuracy.low == pytest.approx(new.same_types["accuracy"].low, abs=1e-12)
    assert known.accuracy.high - known.accuracy.low < (new.accuracy.high - new.accuracy.low) / 3
    assert not known.same_types


# -------------------------------------------------------------------------------------------------- relation 16

FEW = 14  # plans of each case
FAST = {
    "problems": Case(ACCURACY, 200, 1),
    "known types": Case(ACCURACY, 20, 12, "known"),
    "new types": Case(ACCURACY, 30, 6, "new"),
    "budget": Case(BUDGET, 200, 1),
}


def test_a_target_is_missed_on_fresh_problems_no_more_often_than_its_confidence_allows() -> None:
    """``python -m benchmarks.confidence`` counts over more plans. Those for a chance of a half miss too often."""
    every: list[Held] = []
    for case in FAST.values():
        held: list[Held] = []
        for k in range(FEW):
            scenario = world(**case.targets, **({} if case.generalize is None else {"generalize": case.generalize}))
            rows, responses = planned(load_model(scenario, case.sample(k)), True)
            held += kept(rows, responses, load_model(scenario, case.fresh(k)))
        (found,) = missed(held).values()
        assert found[0.5].promised >= FEW - 2
        for level, one in found.items():
            # More come by chance once in 500 times, were each plan exactly as sure as it was asked to be.
            assert one.missed <= binom.ppf(0.998, one.promised, 1 - level), (case, level, one)
        every += held
    together: dict[float, list[bool]] = {}
    for target in every:
        together.setdefault(target.level, []).append(not target.kept)
    shares = {level: sum(lost) / len(lost) for level, lost in together.items()}
    assert set(shares) == {0.5, 0.8, 0.95}
    assert all(share <= 1 - level for level, share in shares.items()), shares
    assert shares[0.5] > 2 * shares[0.8] > 0


def test_plans_for_known_kinds_are_not_sure_of_new_ones() -> None:
    """What is asked for with ``generalize: known`` is missed on new kinds: the two promise different things."""
    case = Case(ACCURACY, 12, 40, "known")
    scenario = world(**case.targets, generalize="known")
    on_known, on_new = [], []
    for k in range(8):
        rows, responses = planned(load_model(scenario, case.sample(k)), True)
        sure = [row for row in rows if row.confidence == 0.95]
        on_known += list(kept(sure, responses, load_model(scenario, case.fresh(k))))
        others = problems(4000, 1, 900 + k, False)
        on_new += list(kept(sure, responses, load_model(world(**case.targets), others)))
    known, new = (missed(each)["accuracy"][0.95] for each in (on_known, on_new))
    assert known.missed <= 2
    assert new.missed > known.missed


# ------------------------------------------------------------------------------------------------- what it costs


@pytest.fixture(scope="module")
def plan() -> ttc.Plan:
    targets = {"minimize": "cost", "accuracy": 0.5, "generalize": "known", "timeout_rate": 0.05}
    return ttc.optimize(scenario_from_dict(gateway(search={"bands": 6, "max_bands": 2}, targets=targets)))


def test_more_confidence_never_costs_less_and_the_plan_is_the_row_of_its_own(plan: ttc.Plan, tmp_path: Path) -> None:
    assert plan.status == "met"
    rows = plan.confidence_costs
    assert [row.confidence for row in rows] == [0.5, 0.8, 0.95]
    assert all(row.status == "met" and row.chance >= (row.confidence or 1) for row in rows)
    costs = [row.cost_usd_per_request.value for row in rows]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    own = rows[1]
    assert (own.accuracy, own.cost_usd_per_request) == (plan.predicted.accuracy, plan.predicted.cost_usd_per_request)
    assert own.policy == plan.scenario.policy
    assert own.chances == {check.name: check.chance for check in plan.checks}
    said = json.loads(json.dumps(plan.as_json()))
    assert [row["confidence"] for row in said["confidence_costs"]] == [0.5, 0.8, 0.95]
    assert said["targets"][0]["confidence"] == 0.8
    plan.save(tmp_path / "plan.yaml")
    raw = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert raw["confidence_costs"] == said["confidence_costs"]
    assert raw["scenario"]["targets"]["confidence"] == 0.8
    console = Console(width=150, record=True, file=io.StringIO())
    print_plan(console, plan)
    text = console.export_text()
    assert "What confidence costs" in text
    assert "asked 80%" in text


def test_a_plan_of_a_format_before_was_made_for_a_chance_of_a_half(plan: ttc.Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.yaml")
    raw = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    for key in ("confidence_costs", "highest_confidence"):
        raw.pop(key)
    raw["ttc_sim_plan"] = 2
    raw["scenario"]["targets"].pop("confidence")
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(raw))
    targets = load_plan(tmp_path / "old.yaml").scenario.targets
    assert targets is not None
    assert {one.confidence for one in targets.asked()} == {0.5}
    now = load_plan(tmp_path / "plan.yaml").scenario.targets
    assert now is not None
    assert {one.confidence for one in now.asked()} == {0.8}


def test_where_no_plan_is_as_sure_as_asked_the_highest_confidence_is_said(tmp_path: Path) -> None:
    """The most accurate that there is, of new kinds, lies above the target by less than its own uncertainty."""
    raw = gateway(search={"bands": 4, "max_bands": 2}, replications=2)
    raw["workload"]["requests"] = 200
    best = max(
        ttc.simulate(scenario_from_dict(raw), f"Always('{arm}')", replications=2).summary().accuracy.value  # type: ignore[union-attr]
        for arm in raw["arms"]
    )
    raw["targets"] = {"minimize": "cost", "accuracy": round(best - 0.01, 3), "confidence": 0.99}
    plan = plan_model(load_model(scenario_from_dict(raw)))
    assert plan.status == "nearest"
    assert plan.binding == ("accuracy",)
    assert 0.5 <= plan.highest_confidence < 0.99
    met = [row for row in plan.confidence_costs if row.status == "met"]
    assert met[0].confidence == 0.5
    assert max(row.confidence or 0 for row in met) <= plan.highest_confidence
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    got = CliRunner().invoke(app, ["optimize", str(tmp_path / "s.yaml")])
    assert got.exit_code == 2
    assert "too unsure" in got.output
    assert f"was found to hold each is {math.floor(100 * plan.highest_confidence)}%" in " ".join(got.output.split())
    # What is said to be had can be had.
    raw["targets"]["confidence"] = max(row.confidence or 0 for row in met)
    assert plan_model(load_model(scenario_from_dict(raw))).status == "met"


def test_of_few_problems_a_target_is_kept_by_chance(plan: ttc.Plan) -> None:
    """Of a fold as uncertain as the plan, a chance of 97.5% (1.96 errors) is one of 1.96 / root 2 errors."""
    found = next(one for one in plan.checks if one.name == "accuracy")
    promised = Estimate.around(found.bound + 0.02 * 1.959964, 0.02)
    checked = TargetCheck("accuracy", found.bound, True, promised, 0.975, 0.8)
    realized = replace(plan.predicted, accuracy=Estimate.around(found.bound - 0.001, 0.02))
    got = beside_realized(checked, realized)
    assert got.chance == pytest.approx(norm.cdf(1.959964 / math.sqrt(2)), abs=1e-6)
    assert got.promised
    assert not got.kept


def test_cross_validation_counts_the_targets_that_were_kept() -> None:
    raw = gateway(replications=2, search={"bands": 3, "max_bands": 2})
    raw["workload"]["requests"] = 150
    raw["targets"] = {"minimize": "cost", "accuracy": 0.5, "generalize": "known"}
    found = ttc.cross_validate(scenario_from_dict(raw), folds=2)
    for fold in found.folds:
        (one,) = fold.targets
        assert one.realized == fold.realized.accuracy.value  # type: ignore[union-attr]
        assert one.kept == (one.realized >= 0.5)
        assert one.promised == (fold.status == "met")
    over = found.targets["accuracy"]
    assert over.confidence == 0.8
    promised = [one for fold in found.folds for one in fold.targets if one.promised]
    assert over.promised == len(promised)
    if promised:
        assert over.kept == np.mean([one.kept for one in promised])
    assert json.loads(json.dumps(found.as_json()))["targets"]["accuracy"]["confidence"] == 0.8
