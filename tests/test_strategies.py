"""Strategies against brute force, closed forms and each other."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import beta, binom

from tests.test_outcomes import attempts_of
from tests.test_scenario import changed
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import COMPLETED, REJECTED, TIMED_OUT
from ttc_sim.evaluation.evaluate import evaluate
from ttc_sim.measured.folders import find_folder
from ttc_sim.policies import Always
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, carry_out, parse_strategy
from ttc_sim.strategies.outcomes import enough, seeded_trial, vote
from ttc_sim.strategies.outcomes.behaviour import behaviour
from ttc_sim.strategies.outcomes.choosing import chance_by_auroc, chance_by_rates
from ttc_sim.strategies.outcomes.forcing import Extensions, ForcedAnswers, fit_forced
from ttc_sim.strategies.outcomes.repeated import Repeated, fit_repeated, vote_chance

N = 40_000
MIXED = [
    [(10 * k + 5, 3, k < 2, k if k >= 2 else 0) for k in range(6)]
]  # two of six right, the wrong ones all different


def trial_on(rows, requests: int = N, problem: int = 0, seed: int = 5):  # type: ignore[no-untyped-def]
    return seeded_trial(attempts_of(rows), np.full(requests, problem, dtype=np.int64), seed)


# ------------------------------------------------------------------------------------------------ best of N


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_a_perfect_verifier_gives_pass_at_n_and_a_blind_one_pass_at_1(n: int) -> None:
    trial = trial_on(MIXED)
    samples = trial.samples(n).correct
    assert (carry_out(BestOfN(n, auroc=1.0), trial).correct == samples.any(axis=1)).all()
    assert (carry_out(BestOfN(n, tpr=1.0, fpr=0.0), trial).correct == samples.any(axis=1)).all()
    # Without repeats, none of n is right with chance C(4, n) / C(6, n).
    miss = len(list(combinations(range(4), n))) / len(list(combinations(range(6), n)))
    assert samples.any(axis=1).mean() == pytest.approx(1 - miss, abs=0.01)
    assert (chance_by_auroc(0.5, n) == np.arange(n + 1) / n).all()
    blind = carry_out(BestOfN(n, auroc=0.5), trial)
    assert blind.correct.mean() == pytest.approx(2 / 6, abs=0.01)
    assert blind.visible_tokens.tolist() == [3 * n] * N


@given(auroc=st.floats(0.02, 0.98), n=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_binormal_verifier_against_drawn_scores(auroc: float, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = chance_by_auroc(auroc, n)
    for k in (1, n // 2, n - 1):
        if not 0 < k < n:
            continue
        right = rng.normal(np.sqrt(2) * ndtri(auroc), 1, (20_000, k)).max(axis=1)
        wrong = rng.normal(0, 1, (20_000, n - k)).max(axis=1)
        assert (right > wrong).mean() == pytest.approx(chance[k], abs=0.018)
    assert chance[0] == 0
    assert chance[n] == pytest.approx(1, abs=1e-6)


@given(tpr=st.floats(0, 1), fpr=st.floats(0, 1), n=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_an_accepting_verifier_against_drawn_verdicts(tpr: float, fpr: float, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = chance_by_rates(tpr, fpr, n)
    for k in range(n + 1):
        accepted = rng.random((20_000, n)) < np.where(np.arange(n) < k, tpr, fpr)
        accepted[~accepted.any(axis=1)] = True
        share = accepted[:, :k].sum(axis=1) / accepted.sum(axis=1)
        assert share.mean() == pytest.approx(chance[k], abs=0.015)


def test_scores_of_the_profile_pick_the_best_scored() -> None:
    made = attempts_of(MIXED)
    scored = type(made)(**{**made.__dict__, "verifier_score": np.array([0.1, 0.9, 0.5, 0.4, 0.3, 0.2])})
    trial = seeded_trial(scored, np.zeros(2000, dtype=np.int64), 1)
    assert carry_out(BestOfN(6, scores=True), trial).correct.all()  # all six are there, the second is best and right
    two = trial.samples(2)
    best = np.take_along_axis(two.correct, two.score.argmax(axis=1)[:, None], axis=1)[:, 0]  # type: ignore[union-attr]
    assert (carry_out(BestOfN(2, scores=True), trial).correct == best).all()


# -------------------------------------------------------------------------------------------- votes that stop early


@given(
    st.lists(st.lists(st.integers(-1, 3), min_size=7, max_size=7), min_size=1, max_size=20),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_stopping_when_decided_never_changes_the_winner(answers: list[list[int]], seed: int) -> None:
    answer = np.array(answers, dtype=np.int64)
    tokens = np.random.default_rng(seed).permuted(np.tile(np.arange(7), (len(answer), 1)), axis=1)
    needed = enough(answer, tokens, 1.0)
    for row, order, k in zip(answers, tokens, needed, strict=True):
        everyone = Counter(a for a in row if a >= 0).most_common(2)
        ended = [a for a, t in zip(row, order, strict=True) if t < k]
        early = Counter(a for a in ended if a >= 0).most_common(2)
        if k < 7:
            assert early[0][0] == everyone[0][0]
            # And no sooner than that: one sample earlier it was open.
            before = Counter(a for a, t in zip(row, order, strict=True) if t < k - 1 and a >= 0).most_common(2)
            lead = before[0][1] if before else 0
            second = before[1][1] if len(before) > 1 else 0
            assert lead - second <= 7 - (k - 1)


def test_adaptive_consistency_follows_its_formula_and_saves_tokens() -> None:
    answer = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    tokens = np.arange(8)[None, :]
    # P(p1 > p2 | v1, v2) with a flat prior: 1 - I_0.5(v1 + 1, v2 + 1).
    expected = next(k for k in range(1, 9) if beta.sf(0.5, k + 1, 1) >= 0.95)
    assert enough(answer, tokens, 0.95).tolist() == [expected]
    rows = [[(100 * (k + 1), 3, k < 5, 0 if k < 5 else k) for k in range(8)]]
    whole, early = (carry_out(MajorityVote(8, stop_early=s), trial_on(rows, 2000)) for s in (False, True))
    assert (early.correct == whole.correct).all()
    assert (early.reasoning_tokens < whole.reasoning_tokens).all()


def test_a_tie_goes_to_the_shortest_if_asked() -> None:
    answer, tokens = np.array([[1, 2, 1, 2]]), np.array([[30, 10, 20, 40]])
    correct = answer == 2
    assert vote(answer, correct, np.array([0.1]), tokens).tolist() == [True]
    assert vote(answer, ~correct, np.array([0.1]), tokens).tolist() == [False]


# --------------------------------------------------------------------------------------------- beyond what was measured


@given(st.integers(1, 6), st.integers(0, 6), st.integers(7, 40))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_further_attempts_are_right_as_often_as_fitted_and_as_long_as_those_that_ended_alike(
    count: int, right: int, n: int
) -> None:
    right = min(right, count)
    rows = [[(100 if k < right else 300, 5, k < right, 0 if k < right else 1 + k) for k in range(count)]]
    rows += [[(100 if k % 2 == 0 else 300, 5, k % 2 == 0, k % 2) for k in range(4)]] * 3
    made = attempts_of(rows)
    samples = trial_on(rows, 4000).samples(n)
    expected = behaviour(made).repeated.next_right(made.right, made.count)[0]
    assert samples.correct[:, :count].mean() == right / count
    assert samples.correct[:, count:].mean() == pytest.approx(expected, abs=0.03)
    # Length goes with the outcome.
    assert (samples.reasoning_tokens == np.where(samples.correct, 100, 300)).all()


@given(a=st.floats(0.3, 4), b=st.floats(0.3, 4), never=st.floats(0, 0.5), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_beta_binomial_finds_what_made_the_attempts(a: float, b: float, never: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.where(rng.random(4000) < never, 0.0, rng.beta(a, b, 4000))
    fitted = fit_repeated(rng.binomial(8, p), np.full(4000, 8))
    for n in (1, 4, 32):
        assert fitted.pass_at(n) == pytest.approx(np.mean(1 - (1 - p) ** n), abs=0.03)
    known = Repeated(a, b, never)
    assert known.right_of(5) == pytest.approx([np.mean(binom.pmf(k, 5, p)) for k in range(6)], abs=0.03)


def test_the_vote_formula_against_drawn_votes() -> None:
    fitted, agree, n = Repeated(1.2, 0.9, 0.1), 0.3, 5
    rng = np.random.default_rng(2)
    p = np.where(rng.random(60_000) < 0.1, 0.0, rng.beta(1.2, 0.9, 60_000))
    right = rng.random((60_000, n)) < p[:, None]
    common = rng.random((60_000, n)) < np.sqrt(agree)
    answer = np.where(right, 0, np.where(common, 1, 2 + np.arange(n)))
    got = vote(answer, right, rng.random(60_000)).mean()
    assert vote_chance(fitted, agree, n) == pytest.approx(got, abs=0.008)


# ------------------------------------------------------------------------------------------------------------ forcing


def test_a_fit_of_forced_answers_finds_what_made_them() -> None:
    truth, rng = ForcedAnswers((0.4, -0.3), (1.2, 0.1), 0.1), np.random.default_rng(3)
    thinking = np.exp(rng.normal(6.5, 1.2, 6000))
    mean = 1 / (1 + np.exp(-(0.4 - 0.3 * np.log(thinking / 500))))
    total = np.exp(1.2 + 0.1 * np.log(thinking / 500))
    needed = np.where(rng.random(6000) < 0.1, 1.0, rng.beta(mean * total, (1 - mean) * total))
    fitted = fit_forced(needed, thinking)
    for share in (0.2, 0.5, 0.8):
        for length in (200.0, 3000.0):
            got = fitted.stands(np.array([share]), np.array([length]))
            assert got == pytest.approx(truth.stands(np.array([share]), np.array([length])), abs=0.03)


def test_extensions_lengthen_gain_and_lose_as_told() -> None:
    rows = [[(100, 5, k < 5, 0 if k < 5 else k) for k in range(10)], [(100, 5, False, k) for k in range(10)]]
    model = Extensions()
    accuracy = 0.5
    for count in (1, 2, 3):
        made = carry_out(BudgetForcing(min_tokens=1000, extensions=count), trial_on(rows))
        assert (made.reasoning_tokens == 100 * (1 + count)).all()
        accuracy = float(model.after(np.array([0.5]), count)[0])
        assert made.correct.mean() == pytest.approx(accuracy, abs=0.012)
        # What ten attempts did not solve may be one of those never solved, and gains nothing then.
        unsolved = carry_out(BudgetForcing(min_tokens=1000, extensions=count), trial_on(rows, problem=1))
        gains = (1 - behaviour(attempts_of(rows)).never[1]) * float(model.after(np.zeros(1), count)[0])
        assert unsolved.correct.mean() == pytest.approx(gains, abs=0.006)
    once = carry_out(BudgetForcing(min_tokens=150, extensions=5), trial_on(rows))
    assert (once.reasoning_tokens == 200).all()  # 200 is past the least after one extension


def test_accuracy_rises_peaks_and_falls_and_sooner_where_problems_are_easy() -> None:
    model = Extensions()
    peaks = []
    for start in (0.3, 0.9):
        curve = [float(model.after(np.array([start]), k)[0]) for k in range(12)]
        peak = int(np.argmax(curve))
        assert curve[-1] < curve[peak]
        peaks.append(peak)
    assert peaks[1] <= peaks[0]
    assert peaks[0] >= 1


# ----------------------------------------------------------------------------------------------- stages, both engines


STAGED = {
    "BestOfN(n=3, auroc=0.8, verifier='api', verifier_tokens=12)": 2,
    "Cascade(stages=[Single(cap=512), MajorityVote(n=3)], tpr=0.9, fpr=0.3, judge='api')": 3,
    "Cascade(stages=['large', Single()], tpr=0.9, fpr=0.3)": 2,
    "MajorityVote(n=4, stop_early=True)": 1,
    "MajorityVote(n=2, of=BudgetForcing(min_tokens=4000, cap=8000, extensions=1))": 1,
}


@pytest.mark.parametrize("strategy", STAGED)
def test_staged_strategies_run_alike_in_both_engines_and_are_billed(strategy: str) -> None:
    raw = changed("arms.small.strategy", strategy)
    raw["workload"]["requests"] = 150
    model = load_model(scenario_from_dict(raw))
    draws = draw(model, 0)
    made = carry(model, draws, np.full(len(draws), model.arm_names.index("small"), dtype=np.int64))
    stages = np.diff(made.work.stage_start)
    assert 1 <= stages.min() <= stages.max() == STAGED[strategy]
    servers = model.deployment_names, model.deployments
    fast = compiled.run([made.work], *servers, tables=model.step_tables)
    slow = reference.run([made.work], *servers, tables=model.step_tables)
    np.testing.assert_allclose(fast.finished_s, slow.finished_s, rtol=1e-9)
    assert (fast.generated_tokens[0] == slow.generated_tokens[0]).all()
    result = simulate(scenario_from_dict(raw), Always("small"), replications=1)
    run = result.runs[0]
    api = made.work.deployment == model.deployment_names.index("api")
    if api.any():
        owner = np.repeat(np.arange(len(draws)), stages)
        sample = np.diff(np.concatenate([[0], np.cumsum(fast.generated_tokens[0])])[made.work.sample_start])
        bill = (1e-6 * fast.prefilled_tokens[0] + 2e-6 * sample)[api]
        assert run.api_cost_usd == pytest.approx(np.bincount(owner[api], weights=bill, minlength=len(draws)))
    total = np.add.reduceat(fast.generated_tokens[0], made.work.sample_start[:-1][made.work.stage_start[:-1]])
    assert (run.reasoning_tokens + run.visible_tokens == total).all()


@pytest.mark.parametrize("on_timeout", ["stop", "finish"])
@pytest.mark.parametrize("strategy", ["Single(cap=4096)", "MajorityVote(n=4, stop_early=True)"])
def test_calls_are_billed_as_the_api_ends_them(strategy: str, on_timeout: str) -> None:
    raw = changed("arms.large.strategy", strategy)
    raw["workload"]["requests"] = 400
    raw["deployments"]["api"] |= {"on_timeout": on_timeout, "concurrency": 30, "retry": {"retries": 1}}
    patient = simulate(scenario_from_dict(raw), Always("large"), replications=1)
    raw["deployments"]["api"]["timeout_s"] = 20.0
    hurried = simulate(scenario_from_dict(raw), Always("large"), replications=1)
    one, other = patient.runs[0], hurried.runs[0]
    done, timed_out = other.result.status == COMPLETED, other.result.status == TIMED_OUT
    assert min(done.sum(), timed_out.sum(), (one.result.status == REJECTED).sum()) > 20
    # What would have been billed does not depend on who timed out or was refused.
    assert (one.planned_api_cost_usd == other.planned_api_cost_usd).all()
    for run in (one, other):
        completed = run.result.status == COMPLETED
        assert (run.api_cost_usd == run.planned_api_cost_usd)[completed].all()
        assert not run.api_cost_usd[run.result.status == REJECTED].any()
    called = timed_out & (other.prompt_tokens > 0)
    shorter = other.api_cost_usd < other.planned_api_cost_usd
    assert shorter[called].all() if on_timeout == "stop" else not shorter[called].any()


def test_what_is_expected_of_a_decided_vote_is_what_the_api_bills() -> None:
    raw = changed("arms.large.strategy", "MajorityVote(n=4, stop_early=True)")
    raw["workload"]["requests"] = 4000
    expected, billed = [], []
    for on_timeout in ("stop", "finish"):
        raw["deployments"]["api"]["on_timeout"] = on_timeout
        run = simulate(scenario_from_dict(raw), Always("large"), replications=1).runs[0]
        expected.append(expect_arms(load_model(scenario_from_dict(raw))).api_cost_usd[1][run.row].mean())
        billed.append(run.api_cost_usd.mean())
    assert expected[1] > 1.02 * expected[0]
    assert expected[1] / expected[0] == pytest.approx(billed[1] / billed[0], rel=0.005)


def test_a_cascade_escalates_what_its_judge_refuses() -> None:
    rows = [[(100, 5, True, 0)], [(100, 5, False, 1)]]
    for problem, accepted in ((0, 0.9), (1, 0.25)):
        made = carry_out(Cascade([Single(), Single()], tpr=0.9, fpr=0.25), trial_on(rows, problem=problem))  # type: ignore[arg-type]
        assert made.stages[1].runs.mean() == pytest.approx(1 - accepted, abs=0.01)
        assert (made.reasoning_tokens == np.where(made.stages[1].runs, 200, 100)).all()


OWN = '''
import numpy as np
from ttc_sim.strategies.outcomes import Outcome

def longest_of_three(trial):
    """Trust whoever thought longest."""
    samples = trial.samples(3)
    best = samples.tokens.argmax(axis=1)[:, None]
    return Outcome.of(samples, np.take_along_axis(samples.correct, best, axis=1)[:, 0])

def wrong(trial):
    return 5

def broken(trial):
    return 1 / 0
'''


def test_a_users_own_strategy(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    made = carry_out(parse_strategy("mine.py:longest_of_three", folder=tmp_path, allow_code=True), trial_on(MIXED))
    # The longest of three is right only if both others are shorter right ones: never here.
    assert not made.correct.any()
    for name, says in (("wrong", "an Outcome"), ("broken", "ZeroDivisionError")):
        with pytest.raises(InputError, match=says):
            carry_out(parse_strategy(f"mine.py:{name}", folder=tmp_path, allow_code=True), trial_on(MIXED, 10))
    with pytest.raises(InputError, match=r"a function of mine\.py"):
        carry_out(parse_strategy("mine.py:absent", folder=tmp_path, allow_code=True), trial_on(MIXED, 10))


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("BestOfN(n=0, auroc=0.8)", ["n", "0", "from 1"]),
        ("BestOfN(n=4, auroc=1.3)", ["auroc", "1.3", "from 0 to 1"]),
        ("BestOfN(n=4)", ["auroc="]),
        ("BestOfN(n=4, tpr=0.9)", ["tpr=... and fpr"]),
        ("BudgetForcing(min_tokens=500, cap=100)", ["min_tokens", "500", "at most the cap"]),
        ("BudgetForcing(cap=0)", ["cap", "0"]),
        ("MajorityVote(n=3, of=MajorityVote(n=3))", ["of", "Single"]),
        ("Cascade(stages=[Single()], tpr=1, fpr=0)", ["stages", "at least two"]),
        ("Cascade(stages=['large', 'small'], tpr=0.9, fpr=0.1)", ["small", "lead back"]),
        ("Cascade(stages=['large', 'huge'], tpr=0.9, fpr=0.1)", ["huge", "arm of the scenario"]),
    ],
)
def test_what_makes_no_sense_is_refused(strategy: str, names: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(changed("arms.small.strategy", strategy))
    for name in ["arms.small.strategy", *names]:
        assert name in str(caught.value)


def test_a_profile_with_forced_answers_of_its_own_is_fitted_to_them(tmp_path: Path) -> None:
    source, own = find_folder("math/sky-t1-32b", "profile.yaml"), tmp_path / "own"
    shutil.copytree(source, own)
    rng = np.random.default_rng(0)
    # This model knows its answer after a tenth of its thinking.
    rows = [f"{n},{p}" for n, p in zip(rng.integers(500, 30_000, 200), rng.integers(1, 20, 200), strict=True)]
    (own / "forced.csv").write_text("\n".join(["thinking_tokens,needed_percent", *rows]) + "\n")
    strategy = Single(cap=2048, on_cap="force_answer")
    [default] = evaluate("math/sky-t1-32b", [strategy], subset="aime24")
    [fitted] = evaluate(str(own), [strategy], subset="aime24")
    [free] = evaluate(str(own), [Single()], subset="aime24")
    assert default.accuracy.value < 0.75 * free.accuracy.value
    assert fitted.accuracy.value > 0.9 * free.accuracy.value
    (own / "forced.csv").write_text("thinking_tokens,needed_percent\n100,-5\n")
    with pytest.raises(InputError, match=r"forced.csv: needed_percent: got -5"):
        evaluate(str(own), [strategy])
