"""What a strategy does to tokens and correctness, vectorised over requests, from measured attempts.

Accuracy and tokens need no queue: they follow from the problem, the strategy and the draws of the request. The basis is
the joint empirical distribution: a request's samples are attempts that the model really made on the request's problem.
"""

from __future__ import annotations

import numpy as np

from ttc_sim.draws import F64, I64
from ttc_sim.errors import InputError
from ttc_sim.outcomes.attempts import Attempts, Bools, Outcome, Samples, Stage
from ttc_sim.outcomes.choosing import chance_by_auroc, chance_by_rates, enough, pick_attempts, vote
from ttc_sim.outcomes.trial import Trial, behaviour, seeded_trial
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, UserStrategy

__all__ = [
    "Attempts",
    "Bools",
    "Outcome",
    "Samples",
    "Stage",
    "Trial",
    "behaviour",
    "carry_out",
    "enough",
    "pick_attempts",
    "seeded_trial",
    "vote",
]


def carry_out(strategy: Strategy, trial: Trial) -> Outcome:
    """Carry a strategy out on the requests of a trial.

    Raises:
        InputError: what the strategy needs is not in the profile, or a user's function returned something else.

    >>> one = np.array([0, 1], dtype=np.int64)
    >>> made = Attempts("x", one, one[1:], one[:1], one[1:], np.array([True]), None, True)
    >>> carry_out(Single(), seeded_trial(made, np.zeros(3, dtype=np.int64))).correct
    array([ True,  True,  True])
    """
    if isinstance(strategy, (Single, BudgetForcing)):
        samples = _samples(trial, 1, strategy, answers=False)
        return Outcome.of(samples, samples.correct[:, 0])
    if isinstance(strategy, MajorityVote):
        return _majority(strategy, trial)
    if isinstance(strategy, BestOfN):
        return _best_of(strategy, trial)
    if isinstance(strategy, Cascade):
        return _cascade(strategy, trial)
    return _users_own(strategy, trial)


def _samples(trial: Trial, n: int, of: Single | BudgetForcing, *, answers: bool = True) -> Samples:
    if isinstance(of, Single):
        return trial.samples(n, of.cap, of.on_cap, answers=answers)
    longer = {"min_tokens": of.min_tokens, "extensions": of.extensions}
    return trial.samples(n, of.cap, "force_answer", **longer, answers=answers)


def _majority(strategy: MajorityVote, trial: Trial) -> Outcome:
    samples = _samples(trial, strategy.n, strategy.of or Single(strategy.cap, strategy.on_cap))
    answer, needed = samples.answer, None
    if strategy.stop_early is not False and strategy.n > 1:
        needed = enough(answer, samples.tokens, 1.0 if strategy.stop_early is True else float(strategy.stop_early))
        # Those that are cancelled do not vote.
        rank = np.argsort(np.argsort(samples.tokens, axis=1, kind="stable"), axis=1)
        answer = np.where(rank < needed[:, None], answer, -1)
    shortest = samples.tokens if strategy.ties == "shortest" else None
    final = vote(answer, samples.correct, trial.draw("tie", 1)[:, 0], shortest)
    return Outcome.of(samples, final, needed)


def _best_of(strategy: BestOfN, trial: Trial) -> Outcome:
    n = strategy.n
    samples = _samples(trial, n, strategy.of or Single(strategy.cap, strategy.on_cap), answers=False)
    if strategy.scores:
        if samples.score is None:
            name = trial.attempts.name
            raise InputError(name, "verifier_score", "not recorded", f"scores in the profile, which {strategy!r} uses")
        score = np.where(samples.answered, samples.score, -np.inf)
        final = np.take_along_axis(samples.correct, score.argmax(axis=1)[:, None], axis=1)[:, 0]
    else:
        # Which of the samples it is does not matter, only whether it is right: one draw against the chance of that.
        if strategy.auroc is not None:
            chance = chance_by_auroc(strategy.auroc, n)
        else:
            assert strategy.tpr is not None
            assert strategy.fpr is not None
            chance = chance_by_rates(strategy.tpr, strategy.fpr, n)
        final = trial.draw("verifier", 1)[:, 0] < chance[samples.correct.sum(axis=1)]
    made = Outcome.of(samples, final)
    if strategy.verifier is None:
        return made
    # Every attempt is read with the request's prompt before it.
    prompt = n * samples.prompt_tokens + samples.visible_tokens.sum(axis=1)
    return made.then([_reading(strategy.verifier, prompt, n, strategy.verifier_tokens, made.stages[0].runs)], final)


def _reading(deployment: str, prompt: I64, n: int, tokens: int, runs: Bools) -> Stage:
    m = len(prompt)
    return Stage(
        runs=runs,
        prompt_tokens=prompt,
        reasoning_tokens=np.zeros((m, n), dtype=np.int64),
        visible_tokens=np.full((m, n), tokens, dtype=np.int64),
        needed=np.full(m, n, dtype=np.int64),
        deployment=deployment,
    )


def _cascade(strategy: Cascade, trial: Trial) -> Outcome:
    runs = np.ones(len(trial), dtype=np.bool_)
    correct = np.zeros(len(trial), dtype=np.bool_)
    stages: list[Stage] = []
    for number, stage in enumerate(strategy.stages):
        if isinstance(stage, str):
            named, other = trial.others[stage]
            part = carry_out(named, other.apart(number) if number else other).only(runs, stage)
        else:
            part = carry_out(stage, trial.apart(number) if number else trial).only(runs)
        stages += part.stages
        correct = np.where(runs, part.correct, correct)
        if number + 1 == len(strategy.stages):
            break
        if strategy.judge is not None:
            answer = part.stages[0].visible_tokens.min(axis=1)
            prompt = part.stages[0].prompt_tokens + answer
            stages.append(_reading(strategy.judge, prompt, 1, strategy.judge_tokens, runs))
        u: F64 = trial.draw(f"judge/{number}", 1)[:, 0]
        runs = runs & (u >= np.where(part.correct, strategy.tpr, strategy.fpr))
    return Outcome(tuple(stages), correct)


def _users_own(strategy: UserStrategy, trial: Trial) -> Outcome:
    try:
        made = strategy.function(trial)
    except InputError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(strategy.where, "strategy", said, "a function that carries a Trial out") from error
    if not isinstance(made, Outcome) or made.correct.shape != (len(trial),):
        raise InputError(strategy.where, "strategy", type(made).__name__, f"an Outcome of {len(trial)} requests")
    return made
