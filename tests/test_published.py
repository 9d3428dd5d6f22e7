"""Published and measured figures that the models of test-time compute reproduce; fitted or predicted is said of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from ttc_sim.base.errors import InputError
from ttc_sim.evaluation.economics import verifier_curve
from ttc_sim.measured.aligning import align, predicted
from ttc_sim.measured.checking import check_parametric
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.scenario import Price
from ttc_sim.serving.prices import resolve_price
from ttc_sim.strategies import MajorityVote, Single, carry_out
from ttc_sim.strategies.outcomes import Attempts, seeded_trial
from ttc_sim.strategies.outcomes.asked import O1_MINI, ResponseCurve
from ttc_sim.strategies.outcomes.choosing import chance_by_auroc
from ttc_sim.strategies.outcomes.forcing import Extensions, ForcedAnswers, fit_forced
from ttc_sim.strategies.outcomes.repeated import (
    DEFAULT_CONCENTRATION,
    Repeated,
    agreement,
    fit_repeated,
    silent_share,
    vote_chance,
)


def part(attempts: Attempts, problems, first: int, last: int) -> Attempts:  # type: ignore[no-untyped-def]
    """Attempts first to last of each of the problems."""
    each = np.ones(len(problems), dtype=np.int64)
    return attempts.between(problems, first * each, last * each)


def carried(strategy: Single | MajorityVote, attempts: Attempts, each: int = 100) -> float:
    return float(
        carry_out(strategy, seeded_trial(attempts, np.repeat(np.arange(len(attempts.count)), each))).correct.mean()
    )


def typical(mean: float) -> Repeated:
    """All that is known is the accuracy of one sample."""
    return Repeated(mean * DEFAULT_CONCENTRATION, (1 - mean) * DEFAULT_CONCENTRATION, 0.0)


# ------------------------------------------------------------------------------------------------------------- fitted


@pytest.mark.parametrize(
    ("without", "extensions", "published"),
    [(0.500, 1, 0.567), (0.926, 1, 0.930), (0.566, 1, 0.596), (0.873, 13, 0.703)],
    ids=["s1 AIME24", "s1 MATH-500", "s1 GPQA", "GSM8K from 1,100 to 15,980 tokens"],
)
def test_two_rates_fitted_to_them_give_budget_forcing_and_overthinking(
    without: float, extensions: int, published: float
) -> None:
    # gain and loss are fitted to these very four figures; two numbers for four.
    got = float(Extensions().after(np.array([without]), extensions)[0])
    assert got == pytest.approx(published, abs=0.02)


def test_forced_answers_on_problems_left_out_of_the_fit(shared: Path) -> None:
    table = pl.read_csv(shared / "forced-answers" / "math500.csv")
    needed = np.minimum(table["needed_percent"].to_numpy() / 100, 1.0)
    thinking = table["thinking_tokens"].to_numpy().astype(np.float64)
    default, whole = ForcedAnswers(), fit_forced(needed, thinking)
    assert np.allclose([*default.mean, *default.precision], [*whole.mean, *whole.precision], atol=0.02)
    fold = np.random.default_rng(0).permutation(len(needed)) % 5
    ours, pooled, shares = [], [], np.arange(0.05, 1, 0.1)
    for k in range(5):
        fitted = fit_forced(needed[fold != k], thinking[fold != k])
        for share in shares:
            stands = needed[fold == k] <= share
            said = fitted.stands(np.full(stands.shape, share), thinking[fold == k])
            ours.append(np.stack([said, stands]))
            pooled.append(np.mean((np.mean(needed[fold != k] <= share) - stands) ** 2))
    both = np.concatenate(ours, axis=1)
    assert np.mean((both[0] - both[1]) ** 2) < np.mean(pooled)  # better than one curve for all lengths
    for share in range(len(shares)):
        rows = np.concatenate([ours[k * len(shares) + share] for k in range(5)], axis=1)
        assert rows[0].mean() == pytest.approx(rows[1].mean(), abs=0.035)


# ---------------------------------------------------------------------------------------------------------- predicted


def test_a_vote_on_the_same_budget_does_better_than_one_long_trace() -> None:
    vote = vote_chance(typical(0.873), 0.2, 14)
    long = float(Extensions().after(np.array([0.873]), 13)[0])
    # Published: up to 20-22 points. Votes of problems as typical say 26: they take samples to be more apart than they are.
    assert 0.18 < vote - long < 0.27


def test_majority_of_64_from_the_accuracy_of_one() -> None:
    assert vote_chance(typical(0.71), 0.2, 64) == pytest.approx(0.867, abs=0.035)


def test_votes_over_o1_mini_from_the_accuracy_of_one() -> None:
    for n, published in ((2, 0.533), (4, 0.675), (8, 0.70)):
        assert vote_chance(typical(0.533), 0.2, n) == pytest.approx(published, abs=0.035)


def test_asked_is_not_used() -> None:
    assert O1_MINI.used_tokens(16) == pytest.approx(363)
    assert O1_MINI.used_tokens(100) == pytest.approx(
        np.exp(np.interp(np.log(100), np.log([64, 128]), np.log([471, 1106])))
    )
    assert O1_MINI.used_tokens(O1_MINI.to_ask(5000)) == pytest.approx(5000)
    with pytest.raises(InputError, match="all it ever used"):
        O1_MINI.to_ask(50_000)
    with pytest.raises(InputError, match="ascending"):
        ResponseCurve((10, 5), (1, 2), "x")


def test_half_of_the_samples_predict_the_other_half() -> None:
    problems = load_problem_set("math").problems["problem"]
    attempts = align(load_profile("math/maj-example"), problems)
    eight = np.flatnonzero(attempts.count >= 8)
    first, second = part(attempts, eight, 0, 4), part(attempts, eight, 4, 8)
    noise = 2 * np.sqrt(2 * 0.95 * 0.05 / len(eight))
    fitted = fit_repeated(first.right, first.count)
    for n in (1, 3, 4):
        assert carried(MajorityVote(n), first) == pytest.approx(carried(MajorityVote(n), second), abs=noise)
        none = seeded_trial(second, np.repeat(np.arange(len(eight)), 50)).samples(n).correct.any(axis=1).mean()
        assert fitted.pass_at(n) == pytest.approx(none, abs=noise)
    assert carried(MajorityVote(8), first) == pytest.approx(
        carried(MajorityVote(8), part(attempts, eight, 0, 8)), abs=noise
    )


MODELS = [
    "claude-3.5-sonnet",
    "claude-sonnet-4",
    "deepseek-r1",
    "gemma-3-27b-it",
    "llama-3.3-70b-instruct",
    "llama-4-maverick",
    "mistral-small-3.1-24b-instruct",
    "o3-mini",
    "qwq-32b",
]


@pytest.mark.parametrize("model", MODELS)
def test_two_attempts_predict_the_vote_of_three_and_pass_at_3(model: str) -> None:
    table = load_problem_set("reasoning-gym").problems
    easy = table.filter(table["subset"] == "reasoning-gym-easy")
    name = f"reasoning-gym/{model}"
    attempts = align(load_profile(name), easy["problem"], predicted(easy, name))
    thrice = np.flatnonzero(attempts.count == 3)
    two, three = part(attempts, thrice, 0, 2), part(attempts, thrice, 0, 3)
    fitted = fit_repeated(two.right, two.count)
    assert fitted.pass_at(3) == pytest.approx((three.right > 0).mean(), abs=0.015)
    voted = carried(MajorityVote(3), three, 20)
    # The third is right by what two attempts say, and its wrong answers agree as theirs do.
    assert abs(carried(MajorityVote(3), two, 20) - voted) < 0.01
    assert vote_chance(fitted, agreement(two), 3, silent_share(two)) == pytest.approx(voted, abs=0.025)


def test_caps_on_thinking_that_does_not_stop() -> None:
    table = load_problem_set("math").problems
    aime = table.filter(table["subset"] == "aime24")["problem"]
    attempts = align(load_profile("math/sky-t1-32b"), aime)
    assert attempts.truncated is not None
    assert attempts.truncated.mean() == pytest.approx(0.41, abs=0.04)  # never stop within 32k
    able = np.flatnonzero(attempts.count >= 6)
    owner = np.repeat(np.arange(len(attempts.count)), attempts.count)
    rank = np.arange(len(owner)) - attempts.start[owner]
    total, kept = attempts.reasoning_tokens + attempts.visible_tokens, np.isin(owner, able)
    for cap in (1024, 4096, 8192, 16384, 32768):
        finished = attempts.correct & (total <= cap)
        # Even attempts of each problem predict the odd ones.
        halves = [finished[kept & (rank % 2 == k)].mean() for k in (0, 1)]
        assert halves[0] == pytest.approx(halves[1], abs=0.08)
        per_problem = [finished[owner == p].mean() for p in able]
        trial = seeded_trial(attempts, np.repeat(able, 400))
        assert carry_out(Single(cap=cap), trial).correct.mean() == pytest.approx(np.mean(per_problem), abs=0.02)


@pytest.mark.parametrize(
    ("prompt", "completion", "published"),
    [(2534059, 779568, 10.37), (2827261, 1468799, 17.69), (2675561, 2623429, 29.08)],
    ids=["low", "medium", "high"],
)
def test_gpt5_effort_levels_cost_what_their_tokens_say(prompt: int, completion: int, published: float) -> None:
    prices = resolve_price(Price(provider="openai", model="gpt-5", on="2025-08-25"), where="test", field="price")
    # The leaderboard's bill knows cached prompts, its tokens do not.
    assert prices.cost_usd(prompt, 0, completion, 0) == pytest.approx(published, rel=0.06)


# ---------------------------------------------------------------------------------------------------- verifier economics


def test_a_perfect_verifier_is_pass_at_n_and_a_blind_one_costs_n_times_for_nothing() -> None:
    for law in (Repeated(0.7, 1.1, 0.2), 0.3):
        perfect, blind = verifier_curve(law, auroc=1.0), verifier_curve(law, auroc=0.5)
        assert perfect.best_of == pytest.approx(perfect.pass_at, abs=1e-9)
        assert blind.best_of == pytest.approx(np.full(64, blind.pass_at[0]), abs=1e-9)
        assert blind.cost_usd.tolist() == list(range(1, 65))
        assert blind.gain_per_usd == pytest.approx(np.zeros(64), abs=1e-9)
        assert perfect.gain_per_usd[1] > 0
    alike = verifier_curve(0.3, auroc=0.8, n=[1, 2, 5])
    exact = [sum(binom.pmf(k, n, 0.3) * chance_by_auroc(0.8, n)[k] for k in range(n + 1)) for n in (1, 2, 5)]
    assert alike.best_of == pytest.approx(exact, abs=1e-4)


def test_where_a_verifier_loses() -> None:
    worse = verifier_curve(0.5, auroc=0.4)
    assert worse.loses_at == 2
    lenient = verifier_curve(0.6, tpr=0.9, fpr=0.7)
    assert lenient.beaten_by_vote_at is not None
    assert verifier_curve(0.6, tpr=1.0, fpr=0.0).beaten_by_vote_at is None
    good = verifier_curve(0.3, auroc=0.9, usd_per_sample=0.01)
    assert 1 < good.worth(1.0) < 64
    assert good.worth(1e-6) == 1
    for bad in ({"auroc": 1.2}, {"tpr": 0.5}, {"auroc": 0.5, "tpr": 0.5, "fpr": 0.5}):
        with pytest.raises(InputError):
            verifier_curve(0.5, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
def test_the_fit_of_repeated_attempts_is_calibrated_on_those_held_back(model: str) -> None:
    found = check_parametric(load_profile(f"reasoning-gym/{model}"))
    for group in found.groups:
        if group.problems >= 100:
            assert group.predicted == pytest.approx(group.seen, abs=0.09)
    assert found.pass_at[0] == pytest.approx(found.pass_at[1], abs=0.015)
    assert found.vote is not None
    assert found.vote[0] == pytest.approx(found.vote[1], abs=0.03)


def test_a_profile_with_one_attempt_each_cannot_be_checked() -> None:
    with pytest.raises(InputError, match="two attempts or more"):
        check_parametric(load_profile("mmlu-pro/phi-3-mini-4k-instruct"))
