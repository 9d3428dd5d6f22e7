"""What is decided of a live request, what became of it, and how both stand in a log: a line of JSON each, and no text."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ttc_sim.strategies import Strategy

PLAN_DIGITS = 12
"""Of a plan's SHA-256, by which its decisions name it."""
SCHEMA = 1
"""Of the lines of a log."""


@dataclass(frozen=True)
class Predicted:
    """What is expected of a request on the arm that was chosen; ``None`` where it is not known.

    Attributes:
        chance: of a right answer, 0 to 1.
        tokens: of output, reasoning and visible together, over all attempts.
        usd: of its calls at the deployments' prices; of a pool, what its share of the promised GPU time costs.
        seconds: from sent to answered, on deployments as busy as planned.
    """

    chance: float | None = None
    tokens: float | None = None
    usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Decision:
    """Where a live request goes, and why.

    Attributes:
        request: its name in logs, unique.
        at: when it was decided, UTC.
        plan: first 12 digits of the SHA-256 of the plan's file.
        source: that it comes from; session: that it is a turn of, if said.
        arm: of the plan; deployment: that serves it; strategy: what is done, with its parameters.
        max_tokens: most output tokens of one attempt, reasoning and visible together; ``None`` for the model's own limit.
        prompt_tokens: as told, or estimated.
        scores: that the policy looked at, by name, and ``difficulty`` and ``novelty``; none where the predictor failed.
        predicted: of the request on this arm.
        why: in a line.
        propensity: chance with which this arm was chosen, 1 unless some are tried on purpose.
        policy_arm: that the policy chose, whether or not another was tried.
        arms: that might have been chosen, where some are tried on purpose.
        fell_back: why the policy was not asked (its predictor failed); ``None`` where it was.
        fallbacks: arms that a request goes to next, one after another, if this one does not answer it.
    """

    request: str
    at: datetime.datetime
    plan: str
    source: str
    session: str | None
    arm: str
    deployment: str
    strategy: Strategy
    max_tokens: int | None
    prompt_tokens: int
    scores: Mapping[str, float]
    predicted: Predicted
    why: str
    propensity: float = 1.0
    policy_arm: str | None = None
    arms: tuple[str, ...] = ()
    fell_back: str | None = None
    fallbacks: tuple[str, ...] = field(default=(), repr=False)

    def as_line(self) -> dict[str, Any]:
        """As it stands in a log."""
        return {
            "ttc_sim_decision": SCHEMA,
            "request": self.request,
            "at": self.at.isoformat(timespec="milliseconds"),
            "plan": self.plan,
            "source": self.source,
            "session": self.session,
            "arm": self.arm,
            "policy_arm": self.policy_arm or self.arm,
            "arms": list(self.arms),
            "propensity": self.propensity,
            "deployment": self.deployment,
            "strategy": repr(self.strategy),
            "max_tokens": self.max_tokens,
            "prompt_tokens": self.prompt_tokens,
            "scores": dict(self.scores),
            "predicted": {
                "chance": self.predicted.chance,
                "tokens": self.predicted.tokens,
                "usd": self.predicted.usd,
                "seconds": self.predicted.seconds,
            },
            "fell_back": self.fell_back,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        request: its name in the log; at: when it ended, UTC.
        arm: that answered it, or was the last that did not.
        status: ``"answered"``, ``"timed_out"``, ``"rejected"`` (turned away for now) or ``"failed"``.
        latency_s: from the first call sent to the end; first_token_s: until the first output token, if any.
        calls: sent, all attempts, verifiers, judges and further tries together.
        prompt_tokens, cached_tokens, reasoning_tokens, visible_tokens: over all calls; cached ones are among those of prompts.
        usd: at the deployments' prices, of what providers said they would bill; pools 0.
        correct: whether the answer was right; ``None`` where nobody graded it.
        estimated: whether tokens, and so dollars, are estimated in part, as endpoints sent no usage.
    """

    request: str
    at: datetime.datetime
    arm: str
    status: str
    latency_s: float
    first_token_s: float | None
    calls: int
    prompt_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    visible_tokens: int
    usd: float
    correct: bool | None = None
    estimated: bool = False

    @property
    def output_tokens(self) -> int:
        """Reasoning and visible ones."""
        return self.reasoning_tokens + self.visible_tokens

    def as_line(self) -> dict[str, Any]:
        """As it stands in a log."""
        said = {name: value for name, value in vars(self).items() if name != "at"}
        return {"ttc_sim_outcome": SCHEMA, "at": self.at.isoformat(timespec="milliseconds"), **said}


def nothing_sent(request: str, arm: str) -> Outcome:
    """Of a request that failed before any call was made."""
    none: dict[str, Any] = dict.fromkeys(
        ("calls", "prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens"), 0
    )
    at = datetime.datetime.now(datetime.UTC)
    return Outcome(request, at, arm, "failed", latency_s=0.0, first_token_s=None, usd=0.0, **none)


def grade_line(request: str, correct: bool) -> dict[str, Any]:
    """A grade that comes later, as it stands in a log; the last one of a request counts."""
    return {"ttc_sim_grade": SCHEMA, "request": request, "correct": correct}


__all__ = ["PLAN_DIGITS", "SCHEMA", "Decision", "Outcome", "Predicted", "grade_line", "nothing_sent"]
