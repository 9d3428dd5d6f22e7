"""More samples than measured attempts: relations on random small profiles, closed forms, and measured attempts left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_outcomes import attempts_of
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, carry_out
from ttc_sim.strategies.outcomes import Attempts, Outcome, Trial, modelled_share, seeded_trial
from ttc_sim.strategies.outcomes.behaviour import behaviour
from ttc_sim.strategies.outcomes.kernels import normal_quantile
from ttc_sim.strategies.outcomes.repeated import Repeated, fit_repeated

MOST = 9


@st.composite
def small_profiles(draw: st.DrawFn) -> Attempts:
    """One to four problems with one to four attempts each: all right, all wrong, or some of both."""
    kind, known = draw(st.sampled_from(["right", "wrong", "mixed", "mixed"])), draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        row = []
        for _ in range(draw(st.integers(1, 4))):
            right = kind == "right" or (kind == "mixed" and draw(st.booleans()))
            answer = 0 if right else draw(st.integers(-1, 3).filter(lambda a: a != 0))
            row.append((draw(st.integers(0, 400)) if known else 0, draw(st.integers(1, 400)), right, answer))
        rows.append(row)
    made = attempts_of(rows, reasoning_known=known)
    if draw(st.booleans()):
        made = dataclasses.replace(made, answer=None)
    if draw(st.booleans()):
        chance = draw(st.lists(st.floats(0, 1), min_size=len(rows), max_size=len(rows)))
        made = dataclasses.replace(made, expected=np.array(chance))
    return made


def on(attempts: Attempts, each: int = 60, seed: int = 3) -> Trial:
    return seeded_trial(attempts, np.repeat(np.arange(len(attempts.count)), each), seed)


def longest(outcome: Outcome) -> np.ndarray:
    return outcome.stages[0].reasoning_tokens + outcome.stages[0].visible_tokens


# ------------------------------------------------------------------------------------- relation 1: more samples, per request


@given(small_profiles(), st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_sample_does_not_depend_on_how_many_there_are_and_measured_ones_come_first(made: Attempts, seed: int) -> None:
    trial = on(made, seed=seed)
    most = trial.samples(MOST)
    for n in (1, 2, 4, 5):
        some = trial.samples(n)
        for name in ("prompt_tokens", "reasoning_tokens", "visible_tokens", "correct", "answered", "answer"):
            every = getattr(most, name)
            assert (getattr(some, name) == (every if every.ndim == 1 else every[:, :n])).all()
    total = made.reasoning_tokens + made.visible_tokens
    for row, p in enumerate(trial.problem):
        own = slice(made.start[p], made.start[p + 1])
        count = made.count[p]
        drawn = zip(most.tokens[row, :count].tolist(), most.correct[row, :count].tolist(), strict=True)
        assert sorted(drawn) == sorted(zip(total[own].tolist(), made.correct[own].tolist(), strict=True))
    assert np.isin(most.tokens, total).all()


@given(small_profiles(), st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_more_samples_help_a_perfect_verifier_do_nothing_for_a_blind_one_and_take_no_less_time(
    made: Attempts, seed: int
) -> None:
    trial = on(made, seed=seed)
    one = carry_out(Single(), trial)
    before, row = one.correct, longest(one).max(axis=1)
    for n in range(1, MOST):
        perfect = carry_out(BestOfN(n, auroc=1.0), trial)
        assert (perfect.correct == carry_out(BestOfN(n, tpr=1.0, fpr=0.0), trial).correct).all()
        assert (perfect.correct >= before).all()
        assert (longest(perfect).max(axis=1) >= row).all()
        assert (carry_out(BestOfN(n, auroc=0.5), trial).correct == one.correct).all()
        before, row = perfect.correct, longest(perfect).max(axis=1)


@given(small_profiles(), st.integers(1, 12))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_perfect_verifier_solves_as_many_as_the_closed_form_says(made: Attempts, n: int) -> None:
    each = 6000
    solved = carry_out(BestOfN(n, auroc=1.0), on(made, each)).correct.reshape(-1, each).mean(axis=1)
    law, count, right = behaviour(made).repeated, made.count, made.right
    for p in range(len(count)):
        if n <= count[p]:
            # Without repeats none of n is right with chance C(wrong, n) / C(count, n).
            wrong = count[p] - right[p]
            exact = 1 - np.prod([max(wrong - k, 0) / (count[p] - k) for k in range(n)])
        elif right[p]:
            exact = 1.0
        else:
            exact = 1 - law.given(right, count, int(n - count[p]))[p, 0]
        assert solved[p] == pytest.approx(exact, abs=4.5 * np.sqrt(max(exact * (1 - exact), 1e-4) / each))


def test_of_many_problems_tokens_grow_n_times_and_the_share_that_is_right_stays() -> None:
    made = typical(400, seed=5)
    trial = on(made, 200)
    samples = trial.samples(12)
    owner = np.repeat(np.arange(len(made.count)), made.count)
    weight = 1 / made.count[owner] / len(made.count)
    tokens = (made.reasoning_tokens + made.visible_tokens).astype(float)
    for j in (0, 4, 11):
        assert samples.tokens[:, j].mean() == pytest.approx(tokens @ weight, rel=0.02)
        assert samples.correct[:, j].mean() == pytest.approx(made.correct @ weight, abs=0.012)
        for right in (True, False):
            kind = made.correct == right
            seen = np.average(tokens[kind], weights=weight[kind])
            assert samples.tokens[:, j][samples.correct[:, j] == right].mean() == pytest.approx(seen, rel=0.03)


def typical(problems: int, seed: int, most: int = 3) -> Attempts:
    """A profile as they are: problems of unlike difficulty and length, wrong attempts longer, one to ``most`` attempts each."""
    rng = np.random.default_rng(seed)
    chance, level = rng.beta(0.3, 0.4, problems), rng.normal(6, 1, problems)
    rows = []
    for p in range(problems):
        row = []
        for _ in range(rng.integers(1, most + 1)):
            right = bool(rng.random() < chance[p])
            tokens = int(np.exp(level[p] + 0.4 * rng.normal() + 0.3 * (not right) - 0.8 * (chance[p] - 0.5)))
            row.append((tokens, 1 + int(rng.integers(40)), right, 0 if right else 1 + int(rng.integers(4))))
        rows.append(row)
    return attempts_of(rows)


def test_a_second_stage_on_the_same_model_tries_anew() -> None:
    for made in (attempts_of([[(5, 1, False, 1)]] * 3 + [[(9, 1, True, 0)]]), typical(30, seed=1)):
        trial = on(made, 200)
        again = carry_out(Cascade((Single(), Single(), Single()), tpr=1.0, fpr=0.0), trial)
        assert (again.correct == carry_out(BestOfN(3, auroc=1.0), trial).correct).all()
        assert again.correct.mean() > carry_out(Single(), trial).correct.mean()


@given(small_profiles())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_share_that_is_modelled(made: Attempts) -> None:
    trial = on(made, 7)
    for n in (1, 3, 8):
        beyond = np.maximum(n - made.count, 0).sum() / (n * len(made.count))
        for strategy in (MajorityVote(n), BestOfN(n, auroc=0.7)):
            assert modelled_share(carry_out(strategy, trial), trial) == pytest.approx(beyond)
    refused = Cascade((Single(), MajorityVote(3)), tpr=0.0, fpr=0.0)
    beyond = np.maximum(4 - made.count, 0).sum() / (4 * len(made.count))
    assert modelled_share(carry_out(refused, trial), trial) == pytest.approx(beyond)


@pytest.mark.parametrize("answers", [True, False])
def test_votes_of_one_attempt_each_gain_as_votes_do(answers: bool) -> None:
    rng = np.random.default_rng(2)
    right = rng.random(600) < 0.6
    made = attempts_of([[(10, 1, bool(r), 0 if r else 1 + int(rng.integers(5)))] for r in right])
    made = made if answers else dataclasses.replace(made, answer=None)
    trial = on(made, 60)
    accuracy = [carry_out(MajorityVote(n), trial).correct.mean() for n in (1, 3, 9)]
    assert accuracy[0] + 0.01 < accuracy[1] < accuracy[2] < carry_out(BestOfN(9, auroc=1.0), trial).correct.mean()


def test_wrong_answers_that_agree_go_on_agreeing() -> None:
    def vote(answers: tuple[int, int, int]) -> float:
        rows = [[(10, 1, a == 0, a) for a in answers]] + [[(10, 1, k < 2, max(k - 1, 0)) for k in range(3)]] * 40
        return float(carry_out(MajorityVote(15), on(attempts_of(rows), 4000)).correct[:4000].mean())

    alike, apart = vote((0, 1, 1)), vote((0, 1, 2))
    assert alike < apart - 0.05
    samples = on(attempts_of([[(1, 1, False, -1)] * 3] * 5 + [[(1, 1, True, 0)] * 3] * 5), 400).samples(9)
    silent = ~samples.answered & ~samples.correct
    assert silent.sum() == (~samples.correct).sum()  # no wrong attempt ever gave an answer


def test_scores_of_further_attempts_are_those_of_attempts_that_ended_alike() -> None:
    rows = [[(5, 1, True, 0), (7, 1, False, 1)], [(6, 1, False, 2)]] * 10
    made = attempts_of(rows)
    scored = dataclasses.replace(made, verifier_score=np.where(made.correct, 0.9, 0.1))
    trial = on(scored, 200)
    samples = trial.samples(8)
    assert samples.score is not None
    assert (samples.score == np.where(samples.correct, 0.9, 0.1)).all()
    assert (carry_out(BestOfN(8, scores=True), trial).correct == samples.correct.any(axis=1)).all()


# --------------------------------------------------------------------------------------------- relation 3: not impossible


def test_what_is_said_of_an_unsolved_problem_depends_on_how_often_it_was_tried() -> None:
    others = [[(9, 1, k < 2, k if k >= 2 else 0) for k in range(4)]] * 6 + [[(9, 1, True, 0)] * 4] * 6

    def again(tries: int, strategy: Strategy) -> float:
        made = attempts_of([[(9, 1, False, 1)] * tries, *others])
        return float(carry_out(strategy, seeded_trial(made, np.zeros(20_000, dtype=np.int64))).correct.mean())

    chances = [again(tries, BestOfN(tries + 10, auroc=1.0)) for tries in (1, 2, 4, 10, 30)]
    assert chances == sorted(chances, reverse=True)
    assert 0.25 < chances[0] < 0.9
    assert 0 < chances[-1] < 0.3 * chances[0]
    gained = [again(tries, BudgetForcing(10**6, extensions=1)) for tries in (1, 30)]
    assert gained[0] > gained[1] > 0


@given(right=st.booleans(), tries=st.integers(1, 3))
@settings(max_examples=6, deadline=None)
def test_one_problem_says_something_and_little(right: bool, tries: int) -> None:
    made = attempts_of([[(9, 1, right, 0 if right else 1)] * tries])
    law = behaviour(made).repeated
    assert 0.01 < law.next_right(made.right, made.count)[0] < 0.99
    assert law.doubt[0] > 0.5  # nothing was seen of how problems differ


def test_predictions_say_which_unsolved_problems_are_likely_to_be_solved() -> None:
    rng = np.random.default_rng(4)
    chance = rng.uniform(0.05, 0.95, 2000)
    right = (rng.random(2000) < chance).astype(np.int64)
    law = fit_repeated(right, np.ones(2000, dtype=np.int64), chance)
    expected = law.next_right(right, np.ones(2000, dtype=np.int64))
    easy, hard = (right == 0) & (chance > 0.7), (right == 0) & (chance < 0.3)
    assert expected[easy].mean() > 2 * expected[hard].mean()
    # Over problems as likely, a further attempt is right as often as the first one was.
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        here = (chance >= low) & (chance < high)
        assert expected[here].mean() == pytest.approx(chance[here].mean(), abs=0.03)


def test_the_fit_finds_how_unlike_problems_are_around_their_predictions() -> None:
    rng = np.random.default_rng(8)
    predicted = rng.uniform(0.05, 0.95, 3000)
    p = rng.beta(1.5 * predicted, 1.5 * (1 - predicted))
    law = fit_repeated(rng.binomial(4, p), np.full(3000, 4), predicted)
    assert law.concentration == pytest.approx(1.5, rel=0.2)
    assert law.never < 0.03
    for n in (1, 4, 16):
        assert law.pass_at(n) == pytest.approx(np.mean(1 - (1 - p) ** n), abs=0.015)


def test_doubt_turns_chances_and_keeps_their_mean() -> None:
    for law in (
        Repeated(0.3, 0.5, 0.05, (0.7, 1.0)),
        Repeated(np.array([0.2, 0.9]), np.array([0.8, 0.1]), 0.1, (0.3, 0.5)),
    ):
        less, more = law.doubted(-1), law.doubted(1)
        assert less.pass_at(1) == pytest.approx(law.pass_at(1), abs=1e-6)
        assert more.pass_at(1) == pytest.approx(law.pass_at(1), abs=1e-6)
        assert more.pass_at(8) < law.pass_at(8) < less.pass_at(8)
        assert law.doubted(0.0) is law


# -------------------------------------------------------------------------------------------------------- relation 4: caps


@given(small_profiles(), st.integers(1, 900), st.integers(0, 300), st.sampled_from([1, 3, 7]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_cap_takes_tokens_and_one_that_nothing_reaches_changes_nothing(
    made: Attempts, cap: int, more: int, n: int
) -> None:
    trial = on(made, 20)
    most, least = int((made.reasoning_tokens + made.visible_tokens).max()), min(cap, 50)

    def all_of(cap: int | None) -> list[Strategy]:
        kinds: list[Strategy] = []
        for on_cap in ("truncate", "force_answer"):
            kinds += [Single(cap, on_cap), MajorityVote(n, cap, on_cap), BestOfN(n, auroc=0.8, cap=cap, on_cap=on_cap)]
        return [*kinds, MajorityVote(n, of=BudgetForcing(least, cap=cap, extensions=2))]

    for low, high, free, loose in zip(
        all_of(cap), all_of(cap + more), all_of(None), all_of(4 * max(most, least)), strict=True
    ):
        less, greater, none, beyond = (carry_out(one, trial) for one in (low, high, free, loose))
        assert (less.reasoning_tokens <= greater.reasoning_tokens).all()
        assert (less.visible_tokens <= greater.visible_tokens).all()
        assert (greater.reasoning_tokens <= none.reasoning_tokens).all()
        assert (beyond.correct == none.correct).all()
        assert (beyond.reasoning_tokens == none.reasoning_tokens).all()
        assert (beyond.visible_tokens == none.visible_tokens).all()
    tight, uncapped = carry_out(BestOfN(n, auroc=1.0, cap=most), trial), carry_out(BestOfN(n, auroc=1.0), trial)
    assert (tight.correct == uncapped.correct).all()


def test_normal_quantiles() -> None:
    from scipy.special import ndtri

    u = np.concatenate([np.geomspace(1e-9, 0.5, 400), 1 - np.geomspace(1e-9, 0.5, 400)])
    assert np.array([normal_quantile(x) for x in u]) == pytest.approx(ndtri(u), abs=1e-7)
