"""Which assumption moves a plan most: beside variations by hand, brute force and closed forms, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.assumptions.asked import ranges_of
from ttc_sim.assumptions.dials import Range, with_separation
from ttc_sim.assumptions.found import EXACT, Assumed, Sensitivity, range_of
from ttc_sim.assumptions.joint import worlds_of
from ttc_sim.assumptions.one_at_a_time import looked_at, rounded
from ttc_sim.assumptions.resampling import resampled
from ttc_sim.assumptions.worlds import Given, Worlds
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.reporting.plots import plot_sensitivity
from ttc_sim.scenario import Scenario, as_plain, scenario_from_dict, with_changes
from ttc_sim.simulation.model import load_model

from .test_bills import replayed
from .test_scenario import GOOD
from .test_what_if import traffic_alone

LENGTHS = {"prompt_tokens": 0, "output_tokens": 40_000}


def plain(scenario: Scenario) -> dict[str, Any]:
    return {key: value for key, value in as_plain(scenario).items() if key != "path"}


def maths(**changes: Any) -> Scenario:
    return scenario_from_dict({**copy.deepcopy(GOOD), "replications": 2, **changes})


def bill(**changes: Any) -> Scenario:
    """A bill that is a product: tokens of output times their price."""
    raw = plain(traffic_alone(replications=1))
    raw["workload"] |= {"requests": 4, "lengths": LENGTHS}
    raw["deployments"]["api"]["price"] = {"input_usd_per_mtok": 0.0, "output_usd_per_mtok": 5.0}
    return scenario_from_dict({**raw, **changes})


def alone(worlds: Worlds, name: str, low: float, high: float) -> Assumed:
    """One assumption within a range."""
    return looked_at(worlds, worlds.dials[name], Range(low, high, "asked for"))


# ------------------------------------------------------------------------------------------- beside variations by hand


def times(scenario: Scenario, factor: float, *paths: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in paths:
        place: Any = plain(scenario)
        for key in path.split("."):
            place = place[key]
        found[path] = place * factor
    return found


STEPS = [f"deployments.pool.step_time.{key}_s" for key in ("base", "per_prefill_token", "per_sequence", "per_kv_token")]
PRICES = [f"deployments.api.price.{key}_usd_per_mtok" for key in ("input", "output")]


@pytest.mark.parametrize(
    ("name", "value", "paths"),
    [
        ("step-time", 1.4, STEPS),
        ("prices", 0.6, PRICES),
        ("gpu-prices", 1.3, ["deployments.pool.usd_per_replica_hour"]),
        ("first-token", 1.7, ["deployments.api.first_token.median_s"]),
        ("per-token", 0.6, ["deployments.api.per_token.median_s"]),
        (
            "rate-limits",
            0.5,
            [
                "deployments.api.tokens_per_minute",
                "deployments.api.output_tokens_per_minute",
                "deployments.api.concurrency",
            ],
        ),
        ("traffic", 1.6, ["workload.arrivals.rate_per_s"]),
        ("burstiness", 2.0, ["workload.arrivals.cv"]),
        ("mix:first", 1.5, ["workload.sources.first.share"]),
        ("lengths", 1.3, []),
        ("thinking", 1.3, []),
        ("predictor-noise", 0.6, []),
        ("predictor-drift", 0.9, []),
    ],
)
def test_each_end_is_the_variation_said_by_hand(name: str, value: float, paths: list[str]) -> None:
    raw = copy.deepcopy(GOOD)
    raw["workload"]["arrivals"] = {"process": "gamma", "rate_per_s": 1.0, "cv": 1.5}
    subsets = {"first": "aime24", "second": "amc23"}
    raw["workload"]["sources"] = {
        key: {"problem_set": "math", "subset": subset, "share": 1.0} for key, subset in subsets.items()
    }
    raw["deployments"]["api"] |= {"tokens_per_minute": 60_000.0, "output_tokens_per_minute": 50_000.0, "concurrency": 4}
    scenario = scenario_from_dict({**raw, "replications": 2})
    ready = {"predictor-noise": ("predictor", f"noise:{value}"), "predictor-drift": ("predictor", f"drift:{value}")}
    kind, said = ready.get(name, (name, f"{value}x"))
    changes: dict[str, object] = times(scenario, value, *paths) if paths else {f"ready.{kind}": said}
    if "deployments.api.concurrency" in changes:
        changes["deployments.api.concurrency"] = 2
    other = ttc.what_if(scenario, {"by hand": changes}).variations[0].kept
    neutral = 0.0 if name == "predictor-drift" else 1.0
    span = (min(value, neutral), max(value, neutral))
    found = alone(Worlds(Given(scenario, None)), name, *span)
    assert len(found.ends) == 1
    end = found.high if value > neutral else found.low
    assert end is not None
    assert end.value == value
    assert set(end.differences) == set(other.compared)
    for figure, beside in other.compared.items():
        assert end.figures[figure] == pytest.approx(beside.after.value, rel=1e-9, abs=1e-12), figure
        for ours, theirs in zip(vars(end.differences[figure]).values(), vars(beside.difference).values(), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9), figure
    assert any(one != EXACT for one in end.differences.values())
    chances = {check.name: check.chance for check in end.checks}
    assert chances == pytest.approx({check.name: check.chance for check in other.targets})


def test_a_poisson_process_is_a_gamma_one_of_the_same_draws() -> None:
    assert plain(maths())["workload"]["arrivals"]["process"] == "poisson"
    found = alone(Worlds(Given(maths(policy="Always('small')"), 80)), "burstiness", 1, 2)
    by_hand = {"workload.arrivals": {"process": "gamma", "rate_per_s": 1.0, "cv": 2.0}}
    bursty = ttc.simulate(with_changes(maths(policy="Always('small')"), by_hand), requests=80).summary()
    assert found.high is not None
    assert found.high.figures["latency_p95_s"] == bursty.latency_s["p95"].value
    assert found.high.differences["latency_mean_s"].value > 0


@pytest.mark.parametrize("auroc", [0.6, 0.8, 0.95])
def test_a_verifier_at_no_distance_guesses_and_at_its_own_is_itself(auroc: float) -> None:
    best = ttc.BestOfN(n=4, auroc=auroc)
    judge = ttc.Cascade(stages=("a", "b"), tpr=0.9, fpr=0.2)
    for strategy in (best, judge):
        guessing, same, better = (with_separation(strategy, factor) for factor in (0.0, 1.0, 1.5))
        if isinstance(guessing, ttc.BestOfN) and isinstance(better, ttc.BestOfN) and isinstance(same, ttc.BestOfN):
            assert (guessing.auroc, same.auroc) == pytest.approx((0.5, auroc))
            assert better.auroc is not None
            assert better.auroc > auroc
        elif isinstance(guessing, ttc.Cascade) and isinstance(better, ttc.Cascade) and isinstance(same, ttc.Cascade):
            assert guessing.tpr == pytest.approx(guessing.fpr)
            assert (same.tpr, same.fpr) == pytest.approx((0.9, 0.2), abs=1e-5)
            assert better.tpr > 0.9
            assert better.fpr < 0.2


# ---------------------------------------------------------------------------------------------------------- break-even


def tight() -> Scenario:
    """A pool that loaded more, or slower, is late."""
    targets = {"minimize": "cost", "accuracy": 0.05, "latency_p95_s": 45.0}
    pool = {**GOOD["deployments"]["pool"], "max_num_seqs": 12}
    deployments = {**GOOD["deployments"], "pool": pool}
    workload = {**GOOD["workload"], "requests": 150}
    return maths(policy="Always('small')", targets=targets, deployments=deployments, workload=workload)


@pytest.mark.parametrize(("name", "most"), [("traffic", 6.0), ("step-time", 3.0), ("lengths", 3.0)])
def test_targets_break_where_a_scan_of_the_range_has_it(name: str, most: float) -> None:
    worlds = Worlds(Given(tight(), None))
    found = alone(worlds, name, 1, most)

    def hold(value: float) -> bool:
        return all(check.holds for check in worlds.checks(worlds.summary(worlds.pooled({name: value}))))

    assert hold(1.0)
    (crossing,) = found.break_even
    assert (crossing.toward, crossing.breaks, crossing.targets) == ("high", True, ("latency_p95_s",))
    scanned = np.exp(np.linspace(0, math.log(most), 61))
    first = next(k for k, value in enumerate(scanned) if not hold(float(value)))
    assert scanned[first - 1] * 0.99 <= crossing.same_until < crossing.changed_at <= scanned[first] * 1.01
    assert crossing.changed_at - crossing.same_until <= 0.006 * crossing.same_until
    told = float(crossing.shown.removeprefix("x"))
    assert crossing.same_until * 0.99 <= told <= crossing.same_until
    assert hold(told)


def test_where_targets_are_missed_the_value_is_found_from_which_all_hold() -> None:
    missed = with_changes(tight(), {"deployments.pool.step_time.base_s": 0.02})
    worlds = Worlds(Given(missed, None))
    found = alone(worlds, "step-time", 0.3, 1)
    (crossing,) = found.break_even
    assert not crossing.breaks
    assert found.low is not None
    assert found.low.mends == ("latency_p95_s",)
    told = float(crossing.shown.removeprefix("x"))
    assert told <= crossing.changed_at < crossing.same_until
    for value, holds in ((told, True), (crossing.same_until, False)):
        checks = worlds.checks(worlds.summary(worlds.pooled({"step-time": value})))
        assert all(check.holds for check in checks) is holds


def test_a_value_is_rounded_to_the_side_on_which_what_is_said_of_it_is_true() -> None:
    assert [rounded(x, 1.0, toward_neutral=True) for x in (1.3449, 0.7421, 1.34, 12.39)] == [1.34, 0.743, 1.34, 12.3]
    assert [rounded(x, 1.0, toward_neutral=False) for x in (1.3441, 0.7429)] == [1.35, 0.742]
    assert [rounded(x, 0.0, toward_neutral=True) for x in (-0.43219, 0.43299, 0.0)] == [-0.432, 0.432, 0.0]


def test_without_targets_nothing_breaks() -> None:
    found = ttc.sensitivity(maths(targets=None), requests=40)
    assert found.checks == ()
    assert not any(one.break_even or end.breaks or end.mends for one in found.assumptions for end in one.ends.values())


# ----------------------------------------------------------------------------------------------------------- problems


def test_resampled_problems_vary_a_figure_as_its_interval_says() -> None:
    scenario = maths(policy="Always('large')")
    population = load_model(scenario).population
    assert population is not None
    attempts = population.attempts["math/sky-t1-32b"]
    rates = []
    for world in range(1, 201):
        other = resampled(population, world, 3)
        assert len(other) == len(population)
        made = other.attempts["math/sky-t1-32b"]
        share = np.bincount(made.owner, weights=made.correct) / made.count
        where = {problem: k for k, problem in enumerate(population.problem)}
        original = np.bincount(attempts.owner, weights=attempts.correct) / attempts.count
        assert share == pytest.approx(original[[where[problem] for problem in other.problem]])
        rates.append(share.mean())
    textbook = original.std(ddof=1) / math.sqrt(len(original))
    assert float(np.std(rates)) == pytest.approx(textbook, rel=0.15)
    assert float(np.mean(rates)) == pytest.approx(original.mean(), abs=3 * textbook / math.sqrt(200))


def test_a_source_of_which_no_problem_is_drawn_keeps_its_own() -> None:
    sources = {
        "one": {"problem_set": "math", "subset": "aime24"},
        "other": {"problem_set": "math", "subset": "amc23"},
    }
    workload = {**GOOD["workload"], "sources": sources}
    population = load_model(maths(workload=workload)).population
    assert population is not None
    few = population.restricted(np.isin(np.arange(len(population)), [0, *np.flatnonzero(population.source == 1)]))
    kept = [(resampled(few, world, 1).source == 0).sum() for world in range(1, 40)]
    assert min(kept) == 1


def test_ends_of_the_problems_are_those_of_the_intervals_of_the_scenario() -> None:
    found = ttc.sensitivity(maths(), requests=60)
    row, accuracy = found["problems"], found.figures["accuracy"]
    assert row.low is not None
    assert row.high is not None
    assert (row.low.figures["accuracy"], row.high.figures["accuracy"]) == (accuracy.low, accuracy.high)
    assert row.effect("accuracy") == pytest.approx(max(accuracy.high - accuracy.value, accuracy.value - accuracy.low))


# ------------------------------------------------------------------------------------------------------ all at once


def of_product(*ranges: tuple[float, float]) -> list[tuple[float, float]]:
    """First-order and total indices of a product of independent log-uniform factors, in closed form."""
    relative = []
    for low, high in ranges:
        length = math.log(high / low)
        mean, square = (high - low) / length, (high**2 - low**2) / (2 * length)
        relative.append(square / mean**2 - 1)  # variance over the mean squared
    whole = math.prod(1 + one for one in relative)
    return [(one / (whole - 1), one * (whole / (1 + one)) / (whole - 1)) for one in relative]


def test_indices_of_a_bill_that_is_a_product_are_those_of_the_closed_form() -> None:
    ranges = {"prices": (0.2, 4.0), "lengths": (0.4, 3.0)}
    joint = ttc.sensitivity(bill(), ranges=ranges, sobol=64).joint
    assert joint is not None
    found = {one.name: one for one in joint.indices["cost_usd_per_request"]}
    for name, (first, total) in zip(ranges, of_product(*ranges.values()), strict=True):
        assert found[name].first.value == pytest.approx(first, abs=0.12)
        assert found[name].total.value == pytest.approx(total, abs=0.12)
        assert found[name].first.low < first < found[name].first.high
        assert found[name].total.low < total < found[name].total.high
        assert found[name].interaction.value == pytest.approx(total - first, abs=0.15)
    for name in set(found) - set(ranges):  # what a bill by the token does not depend on
        assert found[name].first.low <= 0 <= found[name].first.high
        assert found[name].total == EXACT
    firsts = sum(one.first.value for one in found.values())
    spread = math.hypot(*(one.first.high - one.first.value for one in found.values()))
    assert firsts <= 1 + spread
    assert joint.runs == len(joint.points) == 64 * (len(found) + 2)
    low, high = joint.points["prices"].min(), joint.points["prices"].max()
    assert 0.2 <= low < 0.23 < 3.7 < high <= 4.0  # type: ignore[operator]
    # Log-uniform: half of the values lie below the geometric mean of the ends.
    assert float((joint.points["prices"] < math.sqrt(0.8)).mean()) == pytest.approx(0.5, abs=0.06)  # type: ignore[arg-type]


def test_a_world_is_the_simulation_of_all_its_changes() -> None:
    scenario = maths(policy="Always('large')")
    worlds = Worlds(Given(scenario, 10))
    dials = {name: (dial, range_of(dial)) for name, dial in worlds.dials.items() if worlds.why_not(dial) is None}
    points = worlds_of(dials, 64, 1).points
    problems = {point["problems"] for point in points}
    assert problems <= set(range(1, 257))
    assert len(problems) > 60
    values = dict(points[3])
    values = {name: value for name, value in values.items() if name != "problems"}
    changed = as_plain(scenario)
    changed["deployments"]["api"]["first_token"]["median_s"] *= values["first-token"]
    changed["deployments"]["api"]["per_token"]["median_s"] *= values["per-token"]
    for key in ("input_usd_per_mtok", "output_usd_per_mtok"):
        changed["deployments"]["api"]["price"][key] *= values["prices"]
    changed["workload"]["arrivals"] = {
        "process": "gamma",
        "rate_per_s": values["traffic"],
        "cv": values["burstiness"],
    }
    by_hand = scenario_from_dict({key: value for key, value in changed.items() if key != "path"})
    said = {f"ready.{name}": f"{values[name]!r}x" for name in ("lengths", "thinking") if name in values}
    (one,) = ttc.what_if(by_hand, {"long": said}, requests=30).variations
    ours = worlds.summary(worlds.pooled(values))
    assert ours.latency_s["p95"].value == pytest.approx(one.kept.summary.latency_s["p95"].value, rel=1e-9)
    assert ours.cost_usd_per_request.value == pytest.approx(one.kept.summary.cost_usd_per_request.value, rel=1e-9)


# ------------------------------------------------------------------------------------------------------ the same bytes


def test_workers_change_no_byte_and_another_seed_does(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(yaml.safe_dump({**GOOD, "replications": 2}))
    written: list[bytes] = []
    for options in (["--workers", "1"], ["--workers", "2"], ["--workers", "1", "--seed", "9"]):
        file = tmp_path / f"{len(written)}.json"
        arguments = ["sensitivity", str(scenario), "--json", str(file), "--requests", "12", *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        written.append(file.read_bytes())
    assert written[0] == written[1] != written[2]


def test_workers_change_no_byte_of_all_at_once(tmp_path: Path) -> None:
    written: list[tuple[bytes, str]] = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.parquet"
        found = ttc.sensitivity(bill(), sobol=8, out=out, workers=workers)
        written.append((out.read_bytes(), json.dumps(found.as_json())))
    assert written[0] == written[1]


def test_interrupted_worlds_are_not_simulated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, done = tmp_path / "worlds.parquet", [0]
    options: dict[str, Any] = {"sobol": 8, "out": out}
    whole = Worlds.pooled

    def counted(self: Worlds, values: Mapping[str, float]) -> Any:
        done[0] += len(values) > 1
        if done[0] == 20:
            raise KeyboardInterrupt
        return whole(self, values)

    monkeypatch.setattr(Worlds, "pooled", counted)
    with pytest.raises(KeyboardInterrupt):
        ttc.sensitivity(bill(), **options)
    assert not out.exists()
    assert out.with_name("worlds.parquet.journal").exists()
    done[0] = 100
    found = ttc.sensitivity(bill(), **options)
    assert found.joint is not None
    assert done[0] - 100 == found.joint.runs - 19
    assert not out.with_name("worlds.parquet.journal").exists()
    again = ttc.sensitivity(bill(), figure="latency_p95", **options)
    assert done[0] - 100 == found.joint.runs - 19
    assert again.joint is not None
    assert again.joint.as_json() == found.joint.as_json()
    with pytest.raises(InputError, match="another --out"):
        ttc.sensitivity(bill(), **{**options, "replications": 3})


# --------------------------------------------------------------------------------------------------------- odd inputs


def finite(found: Sensitivity) -> None:
    """All that is known is a number, and every assumption is told one way or the other."""
    names = {one.name for one in found.assumptions} | set(found.absent)
    assert {"traffic", "lengths", "prices", "step-time", "problems", "verifier"} <= names
    for one in found.assumptions:
        for end in one.ends.values():
            for difference in end.differences.values():
                assert not math.isnan(difference.value)
                assert difference.low <= difference.value <= difference.high
    sizes = [one.effect(found.figure) for one in found.assumptions]
    known = [size for size in sizes if not math.isnan(size)]
    assert known == sorted(known, reverse=True)
    json.loads(json.dumps(found.as_json(), default=str))
    assert plot_sensitivity(found).axes


def test_a_single_request() -> None:
    finite(ttc.sensitivity(maths(replications=1), requests=1))


def test_a_recorded_trace_has_no_burstiness_and_its_rate_is_stretched(tmp_path: Path) -> None:
    scenario = replayed(tmp_path, [(float(k), 100, 50) for k in range(12)])
    found = ttc.sensitivity(scenario, figure="latency_p95", ranges={"traffic": (1, 2)})
    finite(found)
    assert {"burstiness", "problems", "prices", "predictor-noise", "mix"} <= set(found.absent)
    # Nothing in a replay is random: differences are exact.
    high = found["traffic"].high
    assert high is not None
    assert high.differences["latency_p95_s"].low == high.differences["latency_p95_s"].high


def test_a_trace_at_one_instant_has_no_rate(tmp_path: Path) -> None:
    found = ttc.sensitivity(replayed(tmp_path, [(0.0, 100, 50)] * 5), figure="latency_p50")
    assert "rate" in found.absent["traffic"]
    finite(found)


def test_users_come_in_whole_numbers() -> None:
    closed = {"process": "closed_loop", "users": 3, "think_s": 1.0}
    scenario = maths(workload={**GOOD["workload"], "arrivals": closed})
    found = ttc.sensitivity(scenario, ranges={"traffic": (0.4, 1.6)}, requests=40)
    finite(found)
    assert "burstiness" in found.absent
    by_hand = ttc.what_if(scenario, {"five": {"workload.arrivals.users": 5}}, requests=40).variations[0].kept
    assert found["traffic"].high is not None
    assert found["traffic"].high.figures["latency_mean_s"] == by_hand.figures["latency_mean_s"].value


def test_what_nothing_meets_is_said_to_change_nothing() -> None:
    found = ttc.sensitivity(maths(policy="Always('small')"), requests=30)
    for name in ("prices", "first-token", "per-token"):
        assert found[name].notes == ("changes nothing: no request meets it",)
    assert found["gpu-prices"].effect("cost_usd_per_request") > 0
    assert found.absent["predictor-noise"] == "a policy that reads a predictor's scores"
    assert "rate-limits" in found.absent


def test_a_judge_is_an_assumption_too() -> None:
    arms = {**GOOD["arms"], "judged": {**GOOD["arms"]["small"], "strategy": "Cascade(['small', 'large'], 0.9, 0.2)"}}
    row = alone(Worlds(Given(maths(arms=arms, policy="Always('judged')"), 60)), "verifier", 0.75, 1.25)
    assert row.low is not None
    assert row.high is not None
    assert row.low.differences["accuracy"].value < 0 < row.high.differences["accuracy"].value


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"ranges": {"trafic": (0.5, 2)}}, ["trafic", "'traffic'"]),
        ({"ranges": {"traffic": (2, 0.5)}}, ["range of traffic", "2..0.5", "lower end first"]),
        ({"ranges": {"traffic": (1, 1)}}, ["range of traffic", "lower end first"]),
        ({"ranges": {"traffic": (0, 2)}}, ["range of traffic", "0.0", "factor above 0"]),
        ({"ranges": {"traffic": ("half", 2)}}, ["range of traffic", "'half'", "number"]),
        ({"ranges": {"traffic": 2}}, ["range of traffic", "both ends"]),
        ({"ranges": [("traffic", (1, 2))]}, ["ranges", "by assumption"]),
        ({"ranges": {"predictor-noise": (0.5, 1.2)}}, ["predictor-noise", "1.2", "from 0 to 1"]),
        ({"ranges": {"predictor-drift": ("0.5x", 2)}}, ["predictor-drift", "'0.5x'", "number"]),
        ({"ranges": {"problems": (1, 2)}}, ["problems", "no range"]),
        ({"ranges": {"verifier": (0.5, 2)}}, ["verifier", "does not apply", "verifier or judge"]),
        ({"ranges": {"lengths": (1, 1e12)}}, ["lengths", "less", "output tokens"]),
        ({"ranges": {"burstiness": (1, 100)}}, ["burstiness", "less", "50"]),
        ({"figure": "latency_p96"}, ["figure", "latency_p96", "latency_p95_s"]),
        ({"figure": "goodput"}, ["figure", "goodput"]),
        ({"sobol": 100}, ["sobol", "100", "power of two", "64 or 128"]),
        ({"sobol": 4}, ["sobol", "4", "power of two from 8"]),
        ({"sobol": True}, ["sobol", "power of two"]),
        ({"out": "w.parquet"}, ["out", "--sobol N"]),
        ({"sobol": 8, "out": "w.csv"}, ["w.csv", ".parquet"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"workers": 0}, ["workers", "0"]),
    ],
)
def test_what_is_wrong_is_one_line(options: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(InputError) as error:
        ttc.sensitivity(maths(), **options)
    for name in names:
        assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_accuracy_without_problems_and_no_policy_are_refused() -> None:
    with pytest.raises(InputError, match=r"figure: got 'accuracy'.*no problems"):
        ttc.sensitivity(traffic_alone(), figure="accuracy")
    with pytest.raises(InputError, match="a plan that `ttc-sim optimize` made"):
        ttc.sensitivity(maths(policy=None))


def test_without_salib_one_line_says_how_to_have_it_before_anything_is_simulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "SALib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "SALib", None)
    monkeypatch.setattr(Worlds, "__init__", lambda *_: pytest.fail("begun"))
    with pytest.raises(InputError, match=r"sobol: got 'no SALib'.*pip install 'ttc-sim\[sensitivity\]'"):
        ttc.sensitivity(maths(), sobol=8)


@pytest.mark.parametrize("said", ["traffic", "traffic=2", "=1..2", "traffic=..2", "traffic=1.."])
def test_a_range_on_the_command_line_has_both_ends(said: str) -> None:
    with pytest.raises(InputError, match=r"NAME=LOW\.\.HIGH"):
        ranges_of([said])


def test_ranges_are_read_as_factors_and_shares() -> None:
    asked = ranges_of(["traffic=0.5x..+50%", "prices = -30% .. 1.1", "predictor-drift=-0.5..0.5"])
    assert asked == {"traffic": ("0.5x", "+50%"), "prices": ("-30%", "1.1"), "predictor-drift": ("-0.5", "0.5")}
    found = ttc.sensitivity(maths(), ranges=asked, requests=10)
    ends = {name: (found[name].range.low, found[name].range.high) for name in asked}
    assert ends == {"traffic": (0.5, 1.5), "prices": (0.7, 1.1), "predictor-drift": (-0.5, 0.5)}
    with pytest.raises(InputError, match="each assumption once"):
        ranges_of(["traffic=1..2", "traffic=1..3"])


# ------------------------------------------------------------------------------------------------- tables and pictures


def test_the_command_line_writes_all_or_nothing(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(yaml.safe_dump({**GOOD, "replications": 2}))
    files = {name: tmp_path / f"out.{name}" for name in ("json", "png", "csv")}
    options = ["--json", str(files["json"]), "--plot", str(files["png"]), "--table", str(files["csv"])]
    arguments = ["sensitivity", str(scenario), "--requests", "30", "--workers", "1", *options]
    bad = CliRunner().invoke(app, [*arguments, "--range", "traffic=3..2"])
    assert bad.exit_code == 1
    assert not any(file.exists() for file in files.values())
    result = CliRunner().invoke(app, [*arguments, "--figure", "latency_p95", "--range", "traffic=0.5..3"])
    assert result.exit_code == 0, result.output
    found = json.loads(files["json"].read_text())
    assert found["figure"] == "latency_p95_s"
    # Of an end that nothing bounds the effect is null, and may be the largest.
    sizes = [one["effect"]["latency_p95_s"] for one in found["assumptions"]]
    sizes = [math.inf if size is None else size for size in sizes]
    assert sizes == sorted(sizes, reverse=True)
    assert {"accuracy", "cost_usd_per_day", "latency_p95_s"} <= set(found["base"]["figures"])
    for one in found["assumptions"]:
        assert f"\n│{one['name']}" in result.output or f" {one['name']} " in result.output
        for end in one["ends"].values():
            assert set(end["figures"]) >= {"accuracy", "cost_usd_per_day"}
    for name in found["absent"]:
        assert f"{name} does not apply" in result.output
    rows = pl.read_csv(files["csv"])
    assert set(rows["assumption"]) == {one["name"] for one in found["assumptions"]}


def test_nothing_in_the_picture_is_cut_or_covered() -> None:
    name = "a-stream-of-requests-with-a-name-that-is-very-long-indeed"
    raw = plain(bill())
    raw["workload"] |= {"sources": {name: {}, "other $": {"lengths": {"prompt_tokens": 100, "output_tokens": 900}}}}
    found = ttc.sensitivity(scenario_from_dict(raw), figure="cost_usd_per_day", sobol=8, requests=30)
    assert found[f"mix:{name}"].effect("cost_usd_per_day") > 0
    picture = plot_sensitivity(found)
    picture.canvas.draw()
    page = picture.bbox
    written = [text for axes in picture.axes for text in [*axes.texts, *axes.get_yticklabels(), axes.title]]
    written += [axes.xaxis.label for axes in picture.axes]
    for text in written:
        if text.get_text():
            place = text.get_window_extent()
            assert page.x0 <= place.x0
            assert place.x1 <= page.x1, text.get_text()
            assert page.y0 <= place.y0
            assert place.y1 <= page.y1, text.get_text()
    for axes in picture.axes:
        labels = [text.get_window_extent() for text in axes.texts if text.get_text()]
        for k, one in enumerate(labels):
            assert not any(one.overlaps(other) for other in labels[k + 1 :])
            assert axes.bbox.x0 - 1 <= one.x0
            assert one.x1 <= axes.bbox.x1 + 1
    (legend,) = picture.legends
    place = legend.get_window_extent()
    assert page.x0 <= place.x0
    assert place.x1 <= page.x1
    assert not any(place.overlaps(axes.xaxis.label.get_window_extent()) for axes in picture.axes)
