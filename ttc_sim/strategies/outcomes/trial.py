"""What a strategy is carried out on: some requests, a model's attempts at their problems, and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias

import numpy as np

from ttc_sim.base.draws import F64, I64, columns, uniforms
from ttc_sim.strategies.outcomes.attempts import Attempts, Bools, Outcome, Samples
from ttc_sim.strategies.outcomes.choosing import pick_attempts
from ttc_sim.strategies.outcomes.forcing import Extensions, ForcedAnswers
from ttc_sim.strategies.outcomes.kernels import more
from ttc_sim.strategies.outcomes.repeated import Repeated, agreement, chances, fit_repeated

OnCap: TypeAlias = Literal["truncate", "force_answer"]
DEFAULT_FORCED, DEFAULT_EXTENSIONS = ForcedAnswers(), Extensions()

_OWN = np.int64(1) << np.int64(40)  # answers that no other sample gives, from here on, by sample


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What is fitted to a profile's attempts, for what they do not say themselves.

    Attributes:
        repeated: chances to be right over problems; chance: (P, 64) quantiles of each problem's own.
        right_first: attempts of each problem, the right ones first.
        right_answer: (P,) code of the right answer; negative where none was given.
        reuse: (P,) chance that a further wrong answer is one of those seen.
        answer: (attempts,) codes, modelled where they were not recorded.
    """

    repeated: Repeated
    chance: F64
    right_first: I64
    right_answer: I64
    reuse: F64
    answer: I64


@lru_cache(maxsize=32)
def behaviour(attempts: Attempts) -> Behaviour:
    """Fit what :class:`Behaviour` lists."""
    owner = np.repeat(np.arange(len(attempts.count)), attempts.count)
    agree = agreement(attempts)
    if attempts.answer is not None:
        answer = attempts.answer
    else:
        # Right answers are equal; a wrong one is the common wrong one with a chance that makes two agree as often as measured.
        common = uniforms(0, f"answers/{attempts.name}", len(owner))[:, 0] < np.sqrt(agree)
        answer = np.where(attempts.correct, 0, np.where(common, 1, 2 + np.arange(len(owner))))
        if attempts.truncated is not None:
            answer = np.where(attempts.truncated & ~attempts.correct, -1, answer)
    right_first = np.lexsort((~attempts.correct, owner)).astype(np.int64)
    right_answer = np.full(len(attempts.count), -2, dtype=np.int64)
    right_answer[owner[attempts.correct][::-1]] = answer[attempts.correct][::-1]
    wrong = ~attempts.correct
    _, inverse, times = np.unique(
        np.stack([owner[wrong], answer[wrong]]), axis=1, return_inverse=True, return_counts=True
    )
    same = np.bincount(owner[wrong], weights=times[inverse.ravel()], minlength=len(attempts.count))
    of_problem = np.bincount(owner[wrong], minlength=len(attempts.count))
    alike = same / np.maximum(of_problem, 1) ** 2
    fitted = fit_repeated(attempts.right, attempts.count)
    reuse = np.minimum(np.sqrt(agree / np.maximum(alike, 1e-9)), 1.0)
    return Behaviour(fitted, chances(attempts, fitted), right_first, right_answer, reuse, answer)


class CarriedOut(Protocol):
    """What can be carried out on a trial: a strategy."""

    def carry_out(self, trial: Trial) -> Outcome:
        """What becomes of the trial's requests."""
        ...


@dataclass(frozen=True)
class Trial:
    """``m`` requests to carry a strategy out on.

    Attributes:
        attempts: of the arm's profile.
        problem: (m,) problem of each request; each must have at least one attempt.
        draw: ``draw(stream, count)`` gives (m, count) uniform numbers; those of column ``j`` do not depend on ``count``.
        others: strategies and trials of the scenario's other arms, for cascades.
        extensions: how they come out.
    """

    attempts: Attempts
    problem: I64
    draw: Callable[[str, int], F64]
    others: Mapping[str, tuple[CarriedOut, Trial]] = field(default_factory=dict)
    extensions: Extensions = DEFAULT_EXTENSIONS

    def __len__(self) -> int:
        return len(self.problem)

    def samples(
        self,
        n: int,
        cap: int | None = None,
        on_cap: OnCap = "truncate",
        *,
        min_tokens: int = 0,
        extensions: int = 0,
        answers: bool = True,
    ) -> Samples:
        """Draw ``n`` attempts for each request.

        Attempts that the model really made, without repeats, where there are as many; else by the fitted chance to be right,
        with lengths and answers of the problem's attempts that ended alike. A problem that no attempt solved stays unsolved.

        Args:
            n: attempts.
            cap, on_cap: as for :class:`ttc_sim.strategies.Single`.
            min_tokens, extensions: as for :class:`ttc_sim.strategies.BudgetForcing`.
            answers: whether it matters which answers are the same; if not, only whether there is one is told.
        """
        attempts, known = self.attempts, behaviour(self.attempts)
        picks = self.draw("pick", n)
        chosen = pick_attempts(attempts, self.problem, picks)
        short = np.flatnonzero(attempts.count[self.problem] < n)
        if len(short):
            chosen[short] = self._more(known, short, picks)
        answer = known.answer[chosen]
        if len(short) and answers:
            seen = known.reuse[self.problem[short]][:, None]
            new = ~attempts.correct[chosen[short]] & (answer[short] >= 0) & (self.draw("new", n)[short] >= seen)
            answer[short] = np.where(new, _OWN + np.arange(n), answer[short])
        reasoning, visible = attempts.reasoning_tokens[chosen], attempts.visible_tokens[chosen]
        correct = attempts.correct[chosen]
        thinking = reasoning if attempts.reasoning_known else reasoning + visible
        if min_tokens > 0 and extensions > 0:
            longer, correct, answer = self._extended(thinking, correct, answer, min_tokens, extensions)
            if attempts.reasoning_known:
                reasoning = longer
            else:
                visible = longer
            thinking = longer
        answered = answer >= 0
        score = None if attempts.verifier_score is None else attempts.verifier_score[chosen]
        if cap is not None:
            total = reasoning + visible
            if on_cap == "truncate":
                fits = total <= cap
                reasoning = np.minimum(reasoning, cap)
                visible = np.minimum(visible, cap - reasoning)
                correct, answered = correct & fits, answered & fits
            else:
                # Where thinking was not recorded apart, the whole output counts as thinking. An attempt that was wrong in
                # the end is taken to be wrong when forced as well.
                over = thinking > cap
                if over.any():
                    stands = np.ones_like(correct)
                    tokens = thinking[over]
                    lengths = np.flatnonzero(np.bincount(tokens))  # few of them, and the chance is slow to work out
                    chance = np.zeros(lengths[-1] + 1)
                    forced = attempts.forced or DEFAULT_FORCED
                    chance[lengths] = forced.stands(cap / lengths, lengths.astype(np.float64))
                    stands[over] = self.draw("forced", n)[over] < chance[tokens]
                    answer = np.where(stands, answer, _OWN + np.arange(n))
                    correct, answered = correct & stands, answered | over
                    if attempts.reasoning_known:
                        reasoning = np.minimum(reasoning, cap)
                    else:
                        visible = np.where(over, cap, visible)
        answer = np.where(answered, answer, -1)
        prompt = attempts.prompt_tokens[chosen[:, 0]]
        return Samples(prompt, reasoning, visible, correct, answered, answer, score)

    def _more(self, known: Behaviour, rows: I64, picks: F64) -> I64:
        """Attempts that stand for those never made."""
        attempts, n = self.attempts, picks.shape[1]
        right, level = self.draw("right", n), self.draw("chance", 1)[:, 0]
        return more(
            rows, self.problem, attempts.start, attempts.right, known.right_first, known.chance, level, right, picks
        )

    def _extended(
        self, thinking: I64, correct: Bools, answer: I64, min_tokens: int, extensions: int
    ) -> tuple[I64, Bools, I64]:
        model, known, n = self.extensions, behaviour(self.attempts), thinking.shape[1]
        solvable = (self.attempts.right[self.problem] > 0)[:, None]
        right_answer = known.right_answer[self.problem][:, None]
        longer = thinking.copy()
        for k in range(extensions):
            go_on = longer < min_tokens
            if not go_on.any():
                break
            u = self.draw(f"wait/{k}", n)
            gained = go_on & ~correct & solvable & (u < model.gain * model.fades**k)
            lost = go_on & correct & (u < model.loss)
            correct = (correct & ~lost) | gained
            answer = np.where(gained, right_answer, np.where(lost, _OWN + np.arange(n), answer))
            more = np.maximum(model.longer * thinking, 1).astype(np.int64)
            longer = np.where(go_on, longer + more, longer)
        return longer, correct, answer

    def apart(self, stage: int) -> Trial:
        """The same requests with draws of their own, for a later stage."""
        draw = self.draw
        return Trial(
            self.attempts,
            self.problem,
            lambda stream, count: draw(f"stage{stage}/{stream}", count),
            self.others,
            self.extensions,
        )


def seeded_trial(attempts: Attempts, problem: I64, seed: int = 0, name: str = "trial") -> Trial:
    """A trial with draws from a seed alone, outside of a simulation.

    Args:
        attempts: of a profile.
        problem: (m,) problem of each request.
    """
    m = len(problem)
    return Trial(attempts, problem, lambda stream, count: columns(seed, f"{name}/{stream}", m, count))
