"""One strategy after another, until a judge accepts the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.arguments import share, whole
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.strategies.kind import Strategy, carry_out
from ttc_sim.strategies.outcomes import Outcome, Stage, Trial, reading


@dataclass(frozen=True, repr=False)
class Cascade(Strategy):
    """One strategy after another, until a judge accepts the answer; the last one's answer is final.

    Args:
        stages: strategies on the arm's own model, or names of other arms of the scenario, cheapest first.
        tpr: chance that the judge accepts a right answer; fpr: that it accepts a wrong one.
        judge: deployment that the judge runs on; free and at once if left out.
        judge_tokens: output tokens of one judgement; its prompt is the request's and the answer's visible tokens.

    >>> from ttc_sim.strategies import Single
    >>> Cascade(stages=[Single(cap=512), Single()], tpr=0.9, fpr=0.2).stages[0]
    Single(cap=512)
    """

    stages: tuple[Strategy | str, ...]
    tpr: float
    fpr: float
    judge: str | None = None
    judge_tokens: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.stages, (list, tuple)) or len(self.stages) < 2:
            raise InputError("Cascade", "stages", self.stages, "a list of at least two strategies or names of arms")
        object.__setattr__(self, "stages", tuple(self.stages))
        for stage in self.stages:
            if not isinstance(stage, (str, Strategy)) or isinstance(stage, Cascade):
                raise InputError("Cascade", "stages", stage, "strategies (no cascades) or names of arms")
        if self.judge is not None and not isinstance(self.judge, str):
            raise InputError("Cascade", "judge", self.judge, "the name of a deployment")
        share("Cascade", "tpr", self.tpr)
        share("Cascade", "fpr", self.fpr)
        whole("Cascade", "judge_tokens", self.judge_tokens, 1, MOST_TOKENS, "output tokens")

    def carry_out(self, trial: Trial) -> Outcome:
        """Stages and the judge's readings between them."""
        runs = np.ones(len(trial), dtype=np.bool_)
        correct = np.zeros(len(trial), dtype=np.bool_)
        stages: list[Stage] = []
        made: dict[str, int] = {}  # samples so far, by profile: a later stage on the same model tries anew
        for number, stage in enumerate(self.stages):
            named, on = trial.others[stage] if isinstance(stage, str) else (stage, trial)
            profile = on.attempts.name
            part = carry_out(named, on.apart(number, made.get(profile, 0)) if number else on)
            made[profile] = made.get(profile, 0) + part.samples
            part = part.only(runs, stage if isinstance(stage, str) else None)
            stages += part.stages
            correct = np.where(runs, part.correct, correct)
            if number + 1 == len(self.stages):
                break
            if self.judge is not None:
                answer = part.stages[0].visible_tokens.min(axis=1)
                prompt = part.stages[0].prompt_tokens + answer
                stages.append(reading(self.judge, prompt, 1, self.judge_tokens, runs))
            u: F64 = trial.draw(f"judge/{number}", 1)[:, 0]
            runs = runs & (u >= np.where(part.correct, self.tpr, self.fpr))
        return Outcome(tuple(stages), correct)

    def check_consent(self) -> None:
        """That of the stages that are no other arms."""
        for stage in self.own_stages:
            stage.check_consent()

    @property
    def attempt_caps(self) -> tuple[int | None, ...]:
        """Those of the stages that run on the arm's own model."""
        return tuple(cap for stage in self.own_stages for cap in stage.attempt_caps)

    @property
    def other_arms(self) -> tuple[str, ...]:
        """Stages that are arms."""
        return tuple(stage for stage in self.stages if isinstance(stage, str))

    @property
    def own_stages(self) -> tuple[Strategy, ...]:
        """Stages that run on the arm's own model."""
        return tuple(stage for stage in self.stages if isinstance(stage, Strategy))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Deployments of the stages' verifiers and of the judge."""
        inner = [name for stage in self.own_stages for name in stage.verifiers]
        return (*inner, *(() if self.judge is None else (self.judge,)))

    @property
    def votes(self) -> bool:
        """Whether a stage does."""
        return any(stage.votes for stage in self.own_stages)

    @property
    def reads_scores(self) -> bool:
        """Whether a stage does."""
        return any(stage.reads_scores for stage in self.own_stages)


def check_cascades(arms: Mapping[str, Strategy], where: str) -> None:
    """Arms that cascades name must be there, and must not lead back to themselves.

    Raises:
        InputError: an unknown arm, or a cascade of cascades.
    """
    for name, strategy in arms.items():
        for named in strategy.other_arms:
            if named not in arms:
                raise InputError(where, f"arms.{name}.strategy", named, "an arm of the scenario: " + ", ".join(arms))
            if isinstance(arms[named], Cascade) or arms[named].other_arms:
                expected = "arms that are not cascades themselves: a cascade may not lead back to itself"
                raise InputError(where, f"arms.{name}.strategy", named, expected)
