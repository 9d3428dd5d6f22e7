"""Policies that look at one predicted score, or at none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ttc_sim.base.arguments import finite, in_python
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.policies.policy import Policy
from ttc_sim.policies.requests import DIFFICULTY, Requests


@dataclass(frozen=True)
class Always(Policy):
    """Every request to one arm.

    >>> Always("small")
    Always(arm='small')
    """

    arm: str

    def __post_init__(self) -> None:
        if not isinstance(self.arm, str):
            raise InputError("Always", "arm", self.arm, "the name of an arm")

    def arm_names(self) -> tuple[str, ...]:
        """The arm."""
        return (self.arm,)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """The same index for all."""
        return np.full(len(requests), list(arms).index(self.arm), dtype=np.int64)


@dataclass(frozen=True)
class Banded(Policy):
    """Bands of a predicted score, an arm each.

    Args:
        edges: increasing; band ``k`` holds scores from ``edges[k - 1]`` up to, not including, ``edges[k]``.
        arms: one more than edges.
        score: ``difficulty``, ``p:MODEL``, or ``prompt_tokens``, which needs no predictor.

    >>> Banded(edges=[0.3], arms=["small", "large"]).arm_names()
    ('small', 'large')
    """

    edges: Sequence[float]
    arms: Sequence[str]
    score: str = DIFFICULTY

    def __post_init__(self) -> None:
        edges: list[Any] = list(self.edges) if isinstance(self.edges, (list, tuple, np.ndarray)) else [None]
        if not all(map(finite, edges)) or any(a >= b for a, b in pairwise(edges)):
            raise InputError("Banded", "edges", self.edges, "increasing numbers")
        arms = self.arms if isinstance(self.arms, (list, tuple)) else []
        if len(arms) != len(edges) + 1 or not all(isinstance(arm, str) for arm in arms):
            raise InputError("Banded", "arms", self.arms, f"{len(edges) + 1} arms, one more than edges")
        if not isinstance(self.score, str):
            raise InputError("Banded", "score", self.score, "difficulty, p:MODEL or prompt_tokens")
        in_python(self, "edges")
        if isinstance(self.edges, (list, tuple)) and any(isinstance(edge, np.generic) for edge in self.edges):
            object.__setattr__(self, "edges", type(self.edges)(map(float, self.edges)))

    def arm_names(self) -> tuple[str, ...]:
        """The arms, lowest band first."""
        return tuple(dict.fromkeys(self.arms))

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request's band."""
        index = np.array([list(arms).index(name) for name in self.arms], dtype=np.int64)
        band = np.searchsorted(np.asarray(self.edges, dtype=np.float64), requests.score(self.score), side="right")
        return index[band]


@dataclass(frozen=True)
class Threshold(Policy):
    """One threshold on a predicted score: ``below`` it one arm, at it and ``above`` another.

    >>> Threshold(at=0.4, below="small", above="large").arm_names()
    ('small', 'large')
    """

    at: float
    below: str
    above: str
    score: str = DIFFICULTY

    def __post_init__(self) -> None:
        self._banded()
        in_python(self, "at")

    def _banded(self) -> Banded:
        return Banded(edges=[self.at], arms=[self.below, self.above], score=self.score)

    def arm_names(self) -> tuple[str, ...]:
        """Both arms."""
        return self._banded().arm_names()

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        """Index of the arm of each request."""
        return self._banded().choose(requests, arms)
