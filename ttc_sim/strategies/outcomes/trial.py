"""What a strategy is carried out on: some requests, a model's attempts at their problems, and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np

from ttc_sim.base.draws import F64, I64, columns
from ttc_sim.strategies.outcomes.attempts import Attempts, Bools, Outcome, Samples
from ttc_sim.strategies.outcomes.behaviour import COMMON, OWN, answers_of, behaviour
from ttc_sim.strategies.outcomes.choosing import pick_attempts
from ttc_sim.strategies.outcomes.forcing import Extensions, ForcedAnswers
from ttc_sim.strategies.outcomes.kernels import alike, further

OnCap: TypeAlias = Literal["truncate", "force_answer"]
DEFAULT_FORCED, DEFAULT_EXTENSIONS = ForcedAnswers(), Extensions()


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
        made: samples that earlier stages have drawn of these attempts; further ones come after them.
        drawn: draws of samples, where ``draw`` is a later stage's own; a request's samples go on from stage to stage.
        doubted: see :func:`ttc_sim.strategies.outcomes.behaviour.behaviour`.
        context: tokens that a prompt and its answer may have together where the attempts are made; ``None`` for no limit.
    """

    attempts: Attempts
    problem: I64
    draw: Callable[[str, int], F64]
    others: Mapping[str, tuple[CarriedOut, Trial]] = field(default_factory=dict)
    extensions: Extensions = DEFAULT_EXTENSIONS
    made: int = 0
    drawn: Callable[[str, int], F64] | None = None
    doubted: float = 0.0
    context: int | None = None

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
    ) -> Samples:
        """Draw ``n`` attempts for each request.

        First those that the model really made, without repeats, then further ones: right as often as the fitted chances over
        problems say, given the problem's own attempts, as long as measured ones that ended alike (of problems as long), with
        wrong answers that agree as often as measured (docs/more-samples.md). Sample ``j`` of a request does not depend on ``n``.
        One that would be longer than the ``context`` allows ends there without an answer, whatever is done at the cap.

        Args:
            n: attempts.
            cap, on_cap: as for :class:`ttc_sim.strategies.Single`.
            min_tokens, extensions: as for :class:`ttc_sim.strategies.BudgetForcing`.
        """
        attempts, upto = self.attempts, self.made + n
        picks = self._of_samples("pick", upto)
        chosen = pick_attempts(attempts, self.problem, picks)
        prompt = attempts.prompt_tokens[chosen[:, 0]]
        correct, answer = attempts.correct[chosen], answers_of(attempts).answer[chosen]
        like = chosen
        short = np.flatnonzero(attempts.count[self.problem] < upto)
        if len(short):
            like = self._further(short, picks, chosen, correct, answer)
        score = None if attempts.verifier_score is None else attempts.verifier_score[like][:, self.made :]
        if self.made:
            chosen, correct, answer = chosen[:, self.made :], correct[:, self.made :], answer[:, self.made :]
        reasoning, visible = attempts.reasoning_tokens[chosen], attempts.visible_tokens[chosen]
        thinking = reasoning if attempts.reasoning_known else reasoning + visible
        if min_tokens > 0 and extensions > 0:
            longer, correct, answer = self._extended(picks, thinking, correct, answer, min_tokens, extensions)
            if attempts.reasoning_known:
                reasoning = longer
            else:
                visible = longer
            thinking = longer
        answered = answer >= 0
        if cap is not None:
            total = reasoning + visible
            if on_cap == "truncate":
                fits = total <= cap
                reasoning = np.minimum(reasoning, cap)
                visible = np.minimum(visible, cap - reasoning)
                correct, answered = correct & fits, answered & fits
            else:
                # Where thinking was not recorded apart, the whole output counts as thinking. An attempt that was wrong in
                # the end is taken to be wrong when forced as well, unless what it would have said was asked for.
                over = thinking > cap
                if over.any():
                    stands = np.ones_like(correct)
                    tokens = thinking[over]
                    lengths = np.flatnonzero(np.bincount(tokens))  # few of them, and the chance is slow to work out
                    chance = np.zeros(lengths[-1] + 1)
                    forced = attempts.forced or DEFAULT_FORCED
                    chance[lengths] = forced.stands(cap / lengths, lengths.astype(np.float64))
                    stands[over] = self._of_samples("forced", upto)[:, self.made :][over] < chance[tokens]
                    answer = np.where(stands, answer, OWN + np.arange(self.made, self.made + n))
                    correct, answered = correct & stands, answered | over
                    if attempts.probes is not None:
                        asked, right = attempts.probes.at(cap)
                        own = attempts.reasoning_tokens[chosen]
                        own = own if attempts.reasoning_known else own + attempts.visible_tokens[chosen]
                        told = over & asked[chosen] & (thinking == own)
                        correct = np.where(told, right[chosen], correct)
                        said = answers_of(attempts).right[self.problem][:, None]
                        unlike = OWN + np.arange(self.made, self.made + n)
                        answer = np.where(told, np.where(right[chosen], said, unlike), answer)
                    if attempts.reasoning_known:
                        reasoning = np.minimum(reasoning, cap)
                    else:
                        visible = np.where(over, cap, visible)
        if self.context is not None:
            room = np.maximum(self.context - prompt, 1)[:, None]
            fits = (reasoning + visible <= room) & (prompt < self.context)[:, None]
            reasoning = np.minimum(reasoning, room)
            visible = np.minimum(visible, room - reasoning)
            correct, answered = correct & fits, answered & fits
        answer = np.where(answered, answer, -1)
        return Samples(prompt, reasoning, visible, correct, answered, answer, score)

    def _of_samples(self, stream: str, count: int) -> F64:
        return (self.drawn or self.draw)(stream, count)

    def _further(self, rows: I64, picks: F64, chosen: I64, correct: Bools, answer: I64) -> I64:
        """Fill in the attempts that were never made of some rows; returns the attempts whose scores they take."""
        attempts = self.attempts
        known, codes = behaviour(attempts, self.doubted), answers_of(attempts)
        long = known.lengths
        further(
            rows,
            self.made,
            self.problem,
            attempts.start,
            attempts.right,
            (known.a, known.b, known.never),
            (
                long.level,
                long.spread,
                long.noise,
                long.longer,
                long.base,
                long.step,
                long.place,
                long.made,
                long.first,
            ),
            (
                codes.answer,
                attempts.correct,
                codes.right,
                codes.wrong,
                known.common,
                known.silent,
                COMMON,
                int(OWN),
            ),
            picks,
            chosen,
            correct,
            answer,
        )
        if attempts.verifier_score is None:
            return chosen
        u = self._of_samples("alike", picks.shape[1])
        return alike(rows, self.problem, attempts.start, attempts.right, known.right_first, correct, u, chosen)

    def _extended(
        self, picks: F64, thinking: I64, correct: Bools, answer: I64, min_tokens: int, extensions: int
    ) -> tuple[I64, Bools, I64]:
        model, known, n = self.extensions, behaviour(self.attempts, self.doubted), thinking.shape[1]
        # What the choice of the first attempt leaves of its draw says whether the problem is never solved, as in ``further``.
        left = picks[:, 0] * self.attempts.count[self.problem] % 1.0
        solvable = (left >= known.never[self.problem])[:, None]
        right_answer = answers_of(self.attempts).right[self.problem][:, None]
        longer = thinking.copy()
        for k in range(extensions):
            go_on = longer < min_tokens
            if not go_on.any():
                break
            u = self._of_samples(f"wait/{k}", self.made + n)[:, self.made :]
            gained = go_on & ~correct & solvable & (u < model.gain * model.fades**k)
            lost = go_on & correct & (u < model.loss)
            correct = (correct & ~lost) | gained
            answer = np.where(gained, right_answer, np.where(lost, OWN + np.arange(self.made, self.made + n), answer))
            more = np.maximum(model.longer * thinking, 1).astype(np.int64)
            longer = np.where(go_on, longer + more, longer)
        return longer, correct, answer

    def apart(self, stage: int, made: int) -> Trial:
        """The same requests at a later stage, after ``made`` samples: with further samples, and draws of its own for the rest."""
        draw = self.draw
        return replace(
            self,
            draw=lambda stream, count: draw(f"stage{stage}/{stream}", count),
            made=self.made + made,
            drawn=self.drawn or draw,
        )


def modelled_share(outcome: Outcome, trial: Trial) -> float:
    """Share of the samples behind an outcome that were never measured: those of a request beyond the attempts at its problem."""
    made: dict[str, int] = {}
    drawn = modelled = 0
    for stage in outcome.stages:
        if stage.deployment is not None:
            continue
        on = trial if stage.arm is None else trial.others[stage.arm][1]
        count, n = on.attempts.count[on.problem], stage.visible_tokens.shape[1]
        first = made.get(on.attempts.name, 0)
        made[on.attempts.name] = first + n
        drawn += n * int(stage.runs.sum())
        modelled += int(np.minimum(np.maximum(first + n - count, 0), n)[stage.runs].sum())
    return modelled / drawn if drawn else 0.0


def seeded_trial(attempts: Attempts, problem: I64, seed: int = 0, name: str = "trial") -> Trial:
    """A trial with draws from a seed alone, outside of a simulation.

    Args:
        attempts: of a profile.
        problem: (m,) problem of each request.
    """
    m = len(problem)
    return Trial(attempts, problem, lambda stream, count: columns(seed, f"{name}/{stream}", m, count))
