"""Several attempts; a verifier picks one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.base.arguments import share, whole
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.strategies.attempt import (
    MOST_SAMPLES,
    BudgetForcing,
    SeveralAttempts,
    Single,
    check_cap,
    check_sample,
    samples,
)
from ttc_sim.strategies.outcomes import OnCap, Outcome, Trial, chance_by_auroc, chance_by_rates, reading


@dataclass(frozen=True, repr=False)
class BestOfN(SeveralAttempts):
    """``n`` parallel attempts; a verifier picks one.

    The verifier is given by its ``auroc`` (its scores of right and of wrong answers are normal, with equal variance), by its
    rates ``tpr`` and ``fpr`` (it accepts or refuses; one of the accepted is taken, or any if there is none), or by
    ``scores=True`` (scores that the profile carries).

    Args:
        n: attempts per request.
        auroc: chance that a right answer scores higher than a wrong one, 0 to 1.
        tpr: chance that a right answer is accepted; fpr: that a wrong one is.
        scores: use the ``verifier_score`` of the profile's attempts.
        verifier: deployment that the verifier runs on, once per attempt; free and at once if left out.
        verifier_tokens: output tokens of one verification; its prompt is the request's and the attempt's visible tokens.
        cap, on_cap, of: as for :class:`MajorityVote`.

    >>> BestOfN(n=8, auroc=0.8)
    BestOfN(n=8, auroc=0.8)
    """

    n: int
    auroc: float | None = None
    tpr: float | None = None
    fpr: float | None = None
    scores: bool = False
    verifier: str | None = None
    verifier_tokens: int = 1
    cap: int | None = None
    on_cap: OnCap = "truncate"
    of: Single | BudgetForcing | None = None

    def __post_init__(self) -> None:
        whole("BestOfN", "n", self.n, 1, MOST_SAMPLES, "attempts")
        whole("BestOfN", "verifier_tokens", self.verifier_tokens, 1, MOST_TOKENS, "output tokens")
        check_cap("BestOfN", self.cap, self.on_cap)
        check_sample("BestOfN", self.of, self.cap)
        if self.verifier is not None and not isinstance(self.verifier, str):
            raise InputError("BestOfN", "verifier", self.verifier, "the name of a deployment")
        if not isinstance(self.scores, bool):
            raise InputError("BestOfN", "scores", self.scores, "True or False")
        for field in ("auroc", "tpr", "fpr"):
            if getattr(self, field) is not None:
                share("BestOfN", field, getattr(self, field))
        ways = [self.auroc is not None, self.tpr is not None or self.fpr is not None, self.scores]
        if sum(ways) != 1 or (self.tpr is None) != (self.fpr is None):
            raise InputError("BestOfN", "verifier", repr(self), "one of auroc=..., tpr=... and fpr=..., scores=True")

    def carry_out(self, trial: Trial) -> Outcome:
        """Samples, and then one reading of each by the verifier, where that runs on a deployment."""
        n = self.n
        drawn = samples(trial, n, self.attempt)
        if self.scores:
            if drawn.score is None:
                name = trial.attempts.name
                raise InputError(name, "verifier_score", "not recorded", f"scores in the profile, which {self!r} uses")
            score = np.where(drawn.answered, drawn.score, -np.inf)
            final = np.take_along_axis(drawn.correct, score.argmax(axis=1)[:, None], axis=1)[:, 0]
        else:
            # Which of the samples it is does not matter, only whether it is right: one draw against the chance of that.
            # What the verifier adds to picking blindly, or spoils, is added to or taken from what the first sample is, so that a
            # blind one gives exactly what one sample gives.
            if self.auroc is not None:
                chance = chance_by_auroc(self.auroc, n)
            else:
                assert self.tpr is not None
                assert self.fpr is not None
                chance = chance_by_rates(self.tpr, self.fpr, n)
            right, blind = drawn.correct.sum(axis=1), np.arange(n + 1) / n
            gain = np.divide(chance - blind, 1 - blind, out=np.zeros(n + 1), where=blind < 1)
            keep = np.divide(chance, blind, out=np.ones(n + 1), where=blind > 0)
            u = trial.draw("verifier", 1)[:, 0]
            final = np.where(drawn.correct[:, 0], u < keep[right], u < gain[right])
        made = Outcome.of(drawn, final)
        if self.verifier is None:
            return made
        # Every attempt is read with the request's prompt before it.
        prompt = n * drawn.prompt_tokens + drawn.visible_tokens.sum(axis=1)
        return made.then([reading(self.verifier, prompt, n, self.verifier_tokens, made.stages[0].runs)], final)

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The verifier's deployment, if it has one."""
        return () if self.verifier is None else (self.verifier,)

    @property
    def reads_scores(self) -> bool:
        """As said."""
        return self.scores
