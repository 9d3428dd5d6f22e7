"""Another plan on the logs of one: estimates against the truth where it is known, and no word where logs cannot tell."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from tests.simulated_logs import EveryArm, every_arm, logged
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.deploying.logs import Logs, read_logs
from ttc_sim.deploying.off_policy import OffPolicy, estimate_instead
from ttc_sim.deploying.off_policy.choosing import same_arms
from ttc_sim.deploying.off_policy.estimators import METHODS, Compared, Tried, compare, terms
from ttc_sim.deploying.off_policy.models import chance_known, cross_fitted
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Policy
from ttc_sim.scenario import Scenario, load_scenario

BEST, STEADY, PLAIN = METHODS
OTHER = "Threshold(at=0.3, below='r1', above='maverick', score='p:reasoning-gym/llama-4-maverick')"
TRUTHS = {
    "accuracy": "correct",
    "api_usd_per_request": "usd",
    "latency_mean_s": "latency_s",
    "output_tokens_per_request": "output_tokens",
}


# ------------------------------------------------------------------------------------ estimators on arrays


def test_by_hand() -> None:
    tried = Tried(
        arm=np.array([0, 1, 1, 0]),
        propensity=np.array([0.8, 0.2, 0.5, 0.5]),
        others=np.ones(4, dtype=np.int64),
        policy_arm=np.array([0, 0, 1, 1]),
        reward=np.array([1.0, 1.0, 0.0, np.nan]),
        known=np.array([1.0, 0.5, 1.0, 0.5]),
        model=np.array([[0.9, 0.6], [0.4, 0.7], [0.1, 0.2], [0.3, 0.8]]),
        cluster=np.arange(4),
        most=1.0,
    )
    wanted = np.array([0, 1, 1, 1])
    # Weights: 1 / 0.8, 1 / (0.2 * 0.5) and 1 / 0.5; the last was sent elsewhere.
    assert terms(tried, wanted, PLAIN).value.mean() == pytest.approx((1.25 + 10 + 0) / 4)
    assert terms(tried, wanted, STEADY).value.mean() == pytest.approx(11.25 / 13.25)
    by_model = [0.9 + 1.25 * 0.1, 0.7 + 10 * 0.3, 0.2 - 2 * 0.2, 0.8]
    assert terms(tried, wanted, BEST).value == pytest.approx(by_model)
    assert terms(tried, wanted, PLAIN).effective == pytest.approx(13.25**2 / (1.25**2 + 100 + 4))
    nothing = compare(tried, wanted, wanted)
    for method in METHODS:
        assert nothing[method].difference == ttc.Estimate(0.0, 0.0, 0.0)
        assert nothing[method].logged == nothing[method].instead


class World:
    """Three arms, the dearer the better; a policy that exploring replaces for a share, and another policy."""

    def __init__(self, reward: str) -> None:
        self.reward = reward
        x = (np.arange(100_000) + 0.5) / 100_000
        mean, at = self.means(x), np.arange(len(x))
        ours, theirs = (float(mean[at, chosen].mean()) for chosen in self.policies(x))
        self.truth = np.array([ours, theirs, theirs - ours])

    def means(self, x: F64) -> F64:
        if self.reward == "chance":
            return np.stack([0.9 - 0.8 * x, 0.95 - 0.5 * x, 0.97 - 0.25 * x], axis=1)
        return np.stack([0.1 + 0 * x, 0.3 + x, 1 + 4 * x], axis=1)

    def policies(self, x: F64) -> tuple[I64, I64]:
        return np.where(x < 0.5, 0, 1), np.where(x < 0.3, 0, np.where(x < 0.7, 1, 2))

    def once(
        self, seed: int, n: int, share: float, *, blind: bool = False, graded: bool = False
    ) -> dict[str, Compared]:
        """Logs of ``n`` requests; a blind model sees a number that says nothing, and of harder ones fewer may be graded."""
        rng = np.random.default_rng(seed)
        x = rng.uniform(size=n)
        ours, theirs = self.policies(x)
        arm = np.where(rng.uniform(size=n) < share, rng.integers(0, 3, n), ours)
        propensity = share / 3 + (1 - share) * (arm == ours)
        mean = self.means(x)[np.arange(n), arm]
        spread = np.exp(rng.normal(size=n) - 0.5)
        reward = (rng.uniform(size=n) < mean).astype(np.float64) if self.reward == "chance" else mean * spread
        known = rng.uniform(size=n) < (0.8 - 0.6 * x if graded else 1.0)
        reward[~known] = np.nan
        table = (rng.uniform(size=(n, 1)) if blind else x[:, None]) - 0.5
        tried = Tried(
            arm=arm,
            propensity=propensity,
            others=np.full(n, 2),
            policy_arm=ours,
            reward=reward,
            known=chance_known(known, arm, x, np.ones(n, dtype=np.bool_)),
            model=cross_fitted(table, arm, 3, reward, np.arange(n)),
            cluster=np.arange(n),
            most=1.0 if self.reward == "chance" else math.inf,
        )
        return dict(compare(tried, ours, theirs))

    def repeated(self, repetitions: int, *given: Any, **options: Any) -> dict[str, tuple[F64, F64, F64]]:
        """By method, of both policies and their difference: coverage, bias in standard errors, standard deviation."""
        runs = [self.once(seed, *given, **options) for seed in range(repetitions)]
        found = {}
        for method in METHODS:
            all_three = [[one[method].logged, one[method].instead, one[method].difference] for one in runs]
            values = np.array([[one.value for one in three] for three in all_three])
            hits = [
                [one.low <= true <= one.high for one, true in zip(three, self.truth, strict=True)]
                for three in all_three
            ]
            off = (values.mean(axis=0) - self.truth) / values.std(axis=0) * math.sqrt(repetitions)
            found[method] = np.mean(hits, axis=0), off, values.std(axis=0)
        return found


@pytest.mark.parametrize(("reward", "n", "share"), [("chance", 600, 0.3), ("chance", 600, 0.06), ("dollars", 600, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(reward: str, n: int, share: float) -> None:
    found = World(reward).repeated(200, n, share)
    for method in METHODS:
        covered, off, _ = found[method]
        assert (covered > 0.90).all(), (method, covered)  # 0.95, less 3.2 standard deviations of 200 repetitions
        if method != STEADY:
            assert (np.abs(off) < 3.5).all(), (method, off)
    assert (found[BEST][2] < found[PLAIN][2]).all()
    assert found[BEST][2][2] < 0.9 * found[PLAIN][2][2]


def test_doubly_robust_estimates_need_no_good_model() -> None:
    covered, off, _ = World("chance").repeated(200, 600, 0.2, blind=True)[BEST]
    assert (np.abs(off) < 3.5).all()
    assert (covered > 0.90).all()


def test_harder_requests_may_be_graded_less_often() -> None:
    found = World("chance").repeated(200, 800, 0.3, graded=True)
    covered, off, _ = found[BEST]
    assert (np.abs(off) < 3.5).all(), off
    assert (covered > 0.90).all(), covered


def test_turns_of_a_session_count_once() -> None:
    rng = np.random.default_rng(3)
    n = 400
    arm = rng.integers(0, 2, n)
    one = Tried(
        arm=arm,
        propensity=np.full(n, 0.5),
        others=np.ones(n, dtype=np.int64),
        policy_arm=np.zeros(n, dtype=np.int64),
        reward=(rng.uniform(size=n) < 0.5).astype(np.float64),
        known=np.ones(n),
        model=np.zeros((n, 2)),
        cluster=np.arange(n),
        most=1.0,
    )
    four = one.taken(np.repeat(np.arange(n), 4))
    wanted = np.ones(n, dtype=np.int64)
    once, fourfold = (compare(t, 0 * w, w)[BEST].difference for t, w in ((one, wanted), (four, np.repeat(wanted, 4))))
    assert fourfold.value == pytest.approx(once.value)
    assert fourfold.high - fourfold.low == pytest.approx(once.high - once.low, rel=0.05)


# --------------------------------------------------------------------------------------- whole plans and logs


@pytest.fixture(scope="module")
def every() -> EveryArm:
    return every_arm(load_scenario("reasoning-gateway"), 1500)


@pytest.fixture(scope="module")
def plan(every: EveryArm) -> SavedPlan:
    return SavedPlan(every.scenario, {}, "met")


def planned(scenario: Scenario, policy: Any = OTHER, **changes: Any) -> SavedPlan:
    return SavedPlan(scenario.model_copy(update={"policy": policy, **changes}), {}, "met")


def logs_of(every: EveryArm, plan: SavedPlan, folder: Path, *given: Any, **options: Any) -> Logs:
    return read_logs(logged(every, *given, **options).write(folder / "log.jsonl"), plan)


def drawn_again(logs: Logs, every: EveryArm, seed: int, share: float) -> Logs:
    """The same requests, explored and graded otherwise."""
    rng = np.random.default_rng(seed)
    order = np.array([int(name.split("-")[1]) for name in logs.request])
    ours, offered = every.chosen(), every.offered
    nth = (rng.uniform(size=len(ours)) * offered.sum(axis=1)).astype(np.int64)
    tried = np.array([np.flatnonzero(row)[k] for row, k in zip(offered, nth, strict=True)])
    arm = np.where(rng.uniform(size=len(ours)) < share, tried, ours)
    propensity = share / offered.sum(axis=1) + (1 - share) * (arm == ours)
    answered = every.figure("answered", arm) > 0
    correct = np.where(answered & (rng.uniform(size=len(ours)) < 0.5), np.nan, every.figure("correct", arm))
    return replace(
        logs,
        arm=arm[order],
        propensity=propensity[order],
        status=np.where(answered, 0, 1)[order],
        correct=np.where(answered, correct, 0.0)[order],
        usd=every.figure("usd", arm)[order],
        latency_s=every.figure("latency_s", arm)[order],
        reasoning_tokens=every.figure("output_tokens", arm)[order],
        visible_tokens=np.zeros(len(ours)),
    )


def truth_of(every: EveryArm, policy: Policy | str) -> dict[str, tuple[float, float]]:
    return {
        name: (every.figure(figure, every.chosen()).mean(), every.figure(figure, every.chosen(policy)).mean())
        for name, figure in TRUTHS.items()
    }


def test_another_plan_is_known_where_the_runtime_explores(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    truth = truth_of(every, OTHER)
    logs = logs_of(every, plan, tmp_path, 0.5)
    found = [estimate_instead(drawn_again(logs, every, seed, 0.5), plan, planned(every.scenario)) for seed in range(25)]
    for name, (ours, theirs) in truth.items():
        assert all(one.figures[name].told == 1 and one.figures[name].instead is None for one in found)
        for method in METHODS:
            made = [one.figures[name].by_method[method] for one in found]
            off = np.array([[one.logged.value - ours, one.instead.value - theirs] for one in made])
            off = np.column_stack([off, off[:, 1] - off[:, 0]])
            hits = [one.difference.low <= theirs - ours <= one.difference.high for one in made]
            assert np.mean(hits) >= 0.8, (name, method)  # 0.95, less 3.4 standard deviations of 25 repetitions
            if method != STEADY:
                error = off.std(axis=0) / math.sqrt(len(made))
                assert (np.abs(off.mean(axis=0)) < 3.5 * error).all(), (name, method, off.mean(axis=0) / error)
    assert found[0].same == (every.chosen() == every.chosen(OTHER)).mean()
    assert found[0].explored == 1


def test_without_exploring_only_the_overlap_is_told(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    truth = truth_of(every, OTHER)
    alike = every.chosen() == every.chosen(OTHER)
    logs = logs_of(every, plan, tmp_path, 0.0)
    found = estimate_instead(logs, plan, planned(every.scenario))
    assert 0.5 < alike.mean() < 0.95
    for name, (ours, theirs) in truth.items():
        figure = found.figures[name]
        assert figure.best is not None
        assert figure.told == alike.mean()
        assert figure.best.difference == ttc.Estimate(0.0, 0.0, 0.0)
        here = every.figure(TRUTHS[name], every.chosen())[alike].mean()
        assert figure.best.logged.value == pytest.approx(here)
        assert figure.instead is not None
        assert figure.instead.low <= theirs <= figure.instead.high
        if name == "accuracy":
            assert figure.difference is not None
            assert figure.difference.low <= theirs - ours <= figure.difference.high
            assert figure.difference.high - figure.difference.low >= 1 - alike.mean()
        else:
            assert (figure.instead.high, figure.difference) == (math.inf, None)
    assert "is told" in repr(found)
    # Arms that might be tried, by a share that is nothing, are not.
    named = replace(logs, offered=np.ones_like(logs.offered))
    assert estimate_instead(named, plan, planned(every.scenario)).figures == found.figures
    assert any("had no chance" in note for note in found.notes)


def test_the_same_plan_is_the_same(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    found = estimate_instead(logs_of(every, plan, tmp_path, 0.1, graded=0.3), plan, plan)
    for figure in found.figures.values():
        assert figure.told == 1
        for compared in figure.by_method.values():
            assert compared.difference == ttc.Estimate(0.0, 0.0, 0.0)
            assert compared.instead == compared.logged


def test_an_arm_is_what_it_does_not_its_name(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    """Renamed it is the same; with another cap, timeout or fallback it is not; at another price it is, but for dollars."""
    logs = logs_of(every, plan, tmp_path, 0.4)
    scenario = every.scenario

    def instead(arm: dict[str, Any] | None = None, deployment: dict[str, Any] | None = None) -> OffPolicy:
        r1 = scenario.arms["r1"].model_copy(update=arm or {})
        api = scenario.deployments["r1-api"].model_copy(update=deployment or {})
        arms = {**{name: one for name, one in scenario.arms.items() if name != "r1"}, "deep": r1}
        return estimate_instead(
            logs,
            plan,
            planned(scenario, "Always('deep')", arms=arms, deployments={**scenario.deployments, "r1-api": api}),
        )

    def told(found: OffPolicy) -> list[float]:
        return [found.figures[name].told for name in TRUTHS]

    renamed = instead()
    assert told(renamed) == [1, 1, 1, 1]
    assert renamed.arms[0].same_as == "r1"
    assert renamed.figures == estimate_instead(logs, plan, planned(scenario, "Always('r1')")).figures
    price = scenario.deployments["r1-api"].price.model_copy(update={"factor": 0.5})  # type: ignore[union-attr]
    assert told(instead(deployment={"price": price})) == [1, 0, 1, 1]
    assert told(instead(deployment={"concurrency": 3})) == [1, 1, 0, 1]
    for nothing in (
        instead({"strategy": "Single(cap=900)"}),
        instead({"fallback": "maverick"}),
        instead(deployment={"timeout_s": 7.0}),
    ):
        assert told(nothing) == [0, 0, 0, 0]
        accuracy = nothing.figures["accuracy"]
        assert accuracy.best is None
        assert accuracy.instead is not None
        assert (accuracy.instead.low, accuracy.instead.high) == (0, 1)
        assert nothing.arms[0].same_as is None


def test_a_cascade_is_its_stages(every: EveryArm) -> None:
    scenario = every.scenario
    both = scenario.arms["r1"].model_copy(update={"strategy": "Cascade(stages=['maverick', 'r1'], tpr=0.9, fpr=0.2)"})
    plan = scenario.model_copy(update={"arms": {**scenario.arms, "both": both}})
    brief = scenario.arms["maverick"].model_copy(update={"strategy": "Single(cap=300)"})
    other = plan.model_copy(update={"arms": {**plan.arms, "maverick": brief}})
    names = tuple(plan.arms)
    assert same_arms(plan, plan, names)["accuracy"].tolist() == [0, 1, 2, 3, 4]
    assert same_arms(other, plan, names)["accuracy"].tolist() == [0, -1, 2, 3, -1]


def test_odd_logs_claim_little(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    """One request; answers that are all wrong, or that nobody graded; one arm alone that was ever graded."""
    other = planned(every.scenario, "Always('maverick')")
    logs = logs_of(every, plan, tmp_path, 0.5)

    def accuracy(**changes: Any) -> Any:
        return estimate_instead(replace(logs, **changes), plan, other).figures["accuracy"]

    late = replace(logs, correct=np.where(logs.status == 0, np.nan, 0.0))
    assert (
        logs.status[logs.arm == logs.arms.index("r1")] > 0
    ).any()  # was wrong, whoever grades; of answers that says nothing
    ungraded: Any = estimate_instead(late, plan, planned(every.scenario, "Always('r1')")).figures["accuracy"]
    assert ungraded.told == 0
    assert (ungraded.instead.low, ungraded.instead.high) == (0, 1)
    wrong = accuracy(correct=np.zeros(len(logs))).best
    assert wrong.instead.value == 0
    there = int((logs.arm == logs.arms.index("maverick")).sum())
    assert 2 / there < wrong.instead.high < 0.1  # 3 / n would be that of n requests alike
    assert wrong.difference.low < 0 < wrong.difference.high
    r1 = logs.arms.index("r1")
    only_r1 = accuracy(correct=np.where(logs.arm == r1, logs.correct, np.nan))
    assert only_r1.told == 0
    assert (only_r1.instead.low, only_r1.instead.high) == (0, 1)
    first = read_logs(logged_first(every, tmp_path), plan)
    found = estimate_instead(first, plan, planned(every.scenario, f"Always('{first.arms[first.arm[0]]}')"))
    for name, figure in found.figures.items():
        assert figure.best is not None
        most = 1 if name == "accuracy" else math.inf
        assert (figure.best.instead.low, figure.best.instead.high) == (0, most), name
        assert figure.best.difference == ttc.Estimate(0.0, 0.0, 0.0)


def logged_first(every: EveryArm, folder: Path) -> Sequence[Path]:
    (folder / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged(every).lines[:2]))
    return [folder / "one.jsonl"]


def test_what_cannot_be_worked_out_is_refused(every: EveryArm, plan: SavedPlan, tmp_path: Path) -> None:
    logs = logs_of(every, plan, tmp_path, 0.2)

    def refused(other: SavedPlan, said: str, **changes: Any) -> None:
        with pytest.raises(InputError, match=said):
            estimate_instead(replace(logs, **changes), plan, other, name="other.yaml")

    scenario = every.scenario
    refused(
        planned(scenario, "LeastLoaded(arms=['maverick', 'r1'])"),
        "other.yaml: policy of source .* looks at the request alone",
    )
    refused(
        planned(scenario, predictor_sha256="0" * 64),
        "other.yaml: predictor: .*0000.*; expected the predictor whose scores",
    )
    less = {name: values for name, values in logs.scores.items() if "maverick" not in name}
    refused(planned(scenario), "other.yaml: policy: .* scores that the logs have of every request", scores=less)
    holes = {name: np.where(np.arange(len(logs)) == 7, np.nan, values) for name, values in logs.scores.items()}
    refused(planned(scenario), "other.yaml: policy", scores=holes)
    refused(planned(scenario), "other.yaml: source of the logs", sources=("elsewhere", "research"))
    # A policy that looks at no score needs no predictor, nor any score.
    assert estimate_instead(logs, plan, planned(scenario, "Always('r1')", predictor_sha256="0" * 64)).requests == len(
        logs
    )
    fell_back = np.arange(len(logs)) == 7
    assert (
        estimate_instead(replace(logs, scores=holes, fell_back=fell_back), plan, planned(scenario)).requests
        == len(logs) - 1
    )


def test_the_command(every: EveryArm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, policy in (("plan", every.scenario.policy), ("other", OTHER)):
        content = planned(every.scenario, policy).scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
        saved = {
            "ttc_sim_plan": 3,
            "status": "met",
            "promised": {},
            "made_from": every.scenario.path,
            "scenario": content,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(saved))
    digest = hashlib.sha256((tmp_path / "plan.yaml").read_bytes()).hexdigest()[:12]
    logged(every, 0.3, plan=digest).write(tmp_path / "b.jsonl", tmp_path / "a.jsonl")

    def run(*more: str) -> str:
        got = CliRunner().invoke(app, ["off-policy", "plan.yaml", *more])
        assert got.exit_code == 0, got.output
        return got.output

    out = run("a.jsonl", "b.jsonl", "--instead", "other.yaml", "--json", "x.json", "--table", "x.csv")
    found = json.loads((tmp_path / "x.json").read_text())
    assert run("b.jsonl", "a.jsonl", "--instead", "other.yaml") == out
    got = ttc.off_policy("plan.yaml", ["a.jsonl", "b.jsonl"], OTHER)
    assert found["figures"] == json.loads(json.dumps(got.as_json()["figures"]))
    both = ttc.parse_policy(dict.fromkeys(every.scenario.workload.sources, OTHER))
    for same in (ttc.load_plan("other.yaml"), ttc.parse_policy(OTHER), both):
        assert ttc.off_policy("plan.yaml", ["a.jsonl", "b.jsonl"], same).figures == got.figures
    assert found["figures"]["accuracy"]["doubly_robust"]["difference"]["value"] != 0
    assert "100.0%" in out
    for instead, said in (
        ("Always('gpt')", "a policy of the arms"),
        ("nowhere.yaml", "an existing plan file"),
        ("Alway('r1')", "'Always'"),
    ):
        with pytest.raises(InputError, match=said):
            ttc.off_policy("plan.yaml", "a.jsonl", instead)
    with pytest.raises(InputError, match="decisions of the plan"):
        ttc.off_policy("other.yaml", ["a.jsonl", "b.jsonl"], "plan.yaml")
