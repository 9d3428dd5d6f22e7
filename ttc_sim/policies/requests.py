"""What a policy may know: of requests before they are answered, and of the deployments' live load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.policies.responses import Response
from ttc_sim.policies.turns import Turns

DIFFICULTY = "difficulty"
PROMPT_TOKENS = "prompt_tokens"  # known of every request, predictor or not
TURN = "turn"  # known of every request of a session: which one of it, from 0
NOVELTY = "novelty"
NOVEL = 0.5  # from this novelty on, farther than 95% of new problems of known kinds, a request is unlike what was trained on
# Bands of predicted difficulty in which figures are reported, the same for every policy.
DIFFICULTY_BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Requests:
    """What a policy may know of ``n`` requests before they are answered.

    Attributes:
        arrival_s: (n,) seconds.
        source: (n,) index into ``sources``.
        sources: names of the sources.
        prompt_tokens: (n,).
        scores: predictions by name, each (n,): ``difficulty`` (0 easy to 1 hard), ``p:MODEL`` (predicted chance that the model
            answers correctly) and, where the predictor gives them, ``tokens:MODEL``, ``tokens_p50:MODEL``, ``tokens_p90:MODEL``
            (predicted output tokens) and ``novelty`` (0 known to 1 unlike anything it was trained on).
        responses: by arm, what it is expected to make of a request, for ``Utility``; ``None`` where that was not fitted.
        turns: of sessions; ``None`` where there are none.
        costs: by arm, what its tokens cost and what its deployment's cache keeps, for policies that follow sessions; ``None`` where
            that is not known.
    """

    arrival_s: F64
    source: I64
    sources: tuple[str, ...]
    prompt_tokens: I64
    scores: Mapping[str, F64]
    responses: Mapping[str, Response] | None = None
    turns: Turns | None = None
    costs: Mapping[str, ArmCosts] | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def score(self, name: str, where: str = "policy") -> F64:
        """(n,) predictions of that name; ``prompt_tokens``, and ``turn`` of a session, are known without any.

        Raises:
            InputError: there are none; ``where`` is what asked for them.
        """
        if name == PROMPT_TOKENS and name not in self.scores:
            return self.prompt_tokens.astype(np.float64)
        if name == TURN and name not in self.scores and self.turns is not None:
            return self.turns.turn.astype(np.float64)
        if name not in self.scores:
            raise InputError(where, "score", name, nearest(name, [*self.scores, PROMPT_TOKENS, *self._of_turns]))
        return self.scores[name]

    @property
    def _of_turns(self) -> tuple[str, ...]:
        return () if self.turns is None else (TURN,)

    def taken(self, at: I64) -> Requests:
        """Some of them, in order; of one that waits for none of these nothing is said of whom it waits for."""
        return replace(
            self,
            arrival_s=self.arrival_s[at],
            source=self.source[at],
            prompt_tokens=self.prompt_tokens[at],
            scores=_Some(self.scores, at),
            turns=None if self.turns is None else self.turns.taken(at),
        )


class _Some(Mapping[str, F64]):
    """Scores of some requests, each looked up when it is asked for."""

    def __init__(self, scores: Mapping[str, F64], at: I64) -> None:
        self._scores, self._at = scores, at

    def __getitem__(self, name: str) -> F64:
        return self._scores[name][self._at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


@dataclass(frozen=True)
class Request:
    """One request as a user's own function sees it."""

    index: int
    arrival_s: float
    source: str
    prompt_tokens: int
    scores: Mapping[str, float]

    @property
    def difficulty(self) -> float:
        """Predicted difficulty, 0 to 1."""
        return self.scores[DIFFICULTY]


@dataclass(frozen=True)
class Load:
    """Live load at the moment a request arrives.

    Attributes:
        now_s: clock, seconds.
        in_progress: per deployment name, requests being served.
        waiting: per deployment name, requests queued.
        capacity: per deployment name, sequences or calls that it has in progress at most, as many replicas as are in service now;
            empty where that is not known.
    """

    now_s: float
    in_progress: Mapping[str, int]
    waiting: Mapping[str, int]
    capacity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveRule:
    """A choice by live load that both engines know.

    Attributes:
        kind: ``overflow``: the first arm whose deployment has fewer than ``limit`` sequences waiting, else the last;
            ``least_loaded``: the arm whose deployment has the least in progress and waiting for its capacity, of those alike
            the one with the fewest.
        arms: (n, choices) arms in order of preference.
        limit: for ``overflow``.
    """

    kind: Literal["overflow", "least_loaded"]
    arms: I64
    limit: int = 0
