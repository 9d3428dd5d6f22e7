"""A policy asked about one live request: the arm that a simulation of the plan would send it to, and why, in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ttc_sim.base.display import in_short
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.plugins import is_shipped
from ttc_sim.engine.work import pick_live
from ttc_sim.policies import (
    Always,
    Banded,
    Load,
    Policy,
    Request,
    Requests,
    Threshold,
    UserFunction,
    Utility,
    choose_arms,
    choose_live,
    rule_of,
)
from ttc_sim.policies.predicted import predict
from ttc_sim.policies.responses import Response

T = TypeVar("T")


class Looked(Mapping[str, T], Generic[T]):
    """Scores by name, each as ``made`` makes it of a number; ``at`` are those that were looked at."""

    def __init__(self, scores: Mapping[str, float], made: Callable[[float], T], at: dict[str, float]) -> None:
        self._scores, self._made, self.at = scores, made, at

    def __getitem__(self, name: str) -> T:
        found = self._scores[name]
        self.at[name] = found
        return self._made(found)

    def __contains__(self, name: object) -> bool:
        return name in self._scores

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


@dataclass(frozen=True)
class Asked:
    """One request, as policies are asked about it.

    Attributes:
        requests: it alone; number: of requests before it.
        looked: scores that were looked at so far.
    """

    requests: Requests
    number: int
    scores: Mapping[str, float]
    looked: dict[str, float]

    def as_request(self) -> Request:
        """As a user's function sees it."""
        return Request(
            index=self.number,
            arrival_s=float(self.requests.arrival_s[0]),
            source=self.requests.sources[int(self.requests.source[0])],
            prompt_tokens=int(self.requests.prompt_tokens[0]),
            scores=Looked(self.scores, float, self.looked),
        )


def one_request(
    scores: Mapping[str, float],
    source: str,
    sources: tuple[str, ...],
    prompt_tokens: int,
    arrival_s: float,
    number: int,
    responses: Mapping[str, Response] | None,
) -> Asked:
    """A request with these scores, which came so many seconds after the start, and as many others before it."""
    looked: dict[str, float] = {}
    requests = Requests(
        arrival_s=np.array([arrival_s]),
        source=np.array([sources.index(source)], dtype=np.int64),
        sources=sources,
        prompt_tokens=np.array([prompt_tokens], dtype=np.int64),
        scores=Looked(scores, _column, looked),
        responses=responses,
    )
    return Asked(requests, number, scores, looked)


def _column(value: float) -> F64:
    return np.array([value])


def ask(policy: Policy, asked: Asked, arms: Sequence[str], load: Load | None, at: Sequence[str]) -> tuple[int, str]:
    """Index of the arm that the policy of the request's source chooses, and why.

    Args:
        arms: names; load: of a policy that looks at it; at: the deployment that each arm begins at.

    Raises:
        InputError: it needs a score that there is not, or a user's own failed or chose what is not there.
    """
    requests = asked.requests
    if isinstance(policy, UserFunction):
        index = policy.arm_of(asked.as_request(), arms, load)
        return index, f"{in_short(policy)} says so"
    if policy.looks_at_load:
        assert load is not None
        return _by_load(policy, requests, arms, load, at)
    if type(policy) is Utility:
        return _by_worth(policy, requests, arms)
    index = int(choose_arms(policy, requests, arms)[0])
    return index, _why(policy, requests)


def _by_load(policy: Policy, requests: Requests, arms: Sequence[str], load: Load, at: Sequence[str]) -> tuple[int, str]:
    rule = rule_of(policy, requests, arms)
    if rule is None:
        return choose_live(policy, requests, 0, arms, load), f"{in_short(policy)}, by what is on its way"
    choices = rule.arms[0]
    names = list(load.capacity)
    here: I64 = np.array([names.index(at[arm]) for arm in choices], dtype=np.int64)
    waiting, in_progress = (
        np.array([counts[name] for name in names], dtype=np.int64) for counts in (load.waiting, load.in_progress)
    )
    most = np.array([load.capacity[name] for name in names], dtype=np.float64)
    picked = pick_live(rule.kind == "overflow", rule.limit, len(here), here, waiting, in_progress, most)
    name = at[int(choices[picked])]
    seen = f"{load.in_progress[name]:,} in progress and {load.waiting[name]:,} waiting at {name}"
    said = f"fewer than {rule.limit:,} waiting, or the last" if rule.kind == "overflow" else "the least loaded"
    return int(choices[picked]), f"{said}: {seen}"


def _by_worth(policy: Utility, requests: Requests, arms: Sequence[str]) -> tuple[int, str]:
    if requests.responses is None:
        return int(policy.choose(requests, arms)[0]), ""  # which refuses
    predicted = list(predict(requests.responses, requests, arms))
    index = int(policy.best_of(predicted, requests)[0])
    worth = {
        one.arm: float(one.value(policy.price_of_accuracy, policy.price_of_second)[0])
        for one in predicted
        if one.offered[0]
    }
    chance = next(float(one.correct[0]) for one in predicted if one.arm == index)
    others = [arm for arm in worth if arm != index]
    after = max(others, key=lambda arm: worth[arm], default=None)
    following = "" if after is None else f"; next {arms[after]}, ${worth[after]:.4g}"
    return index, f"worth ${worth[index]:.4g}, at a chance of {chance:.2f} to be right{following}"


def _why(policy: Policy, requests: Requests) -> str:
    if type(policy) is Always:
        return "all requests go there"
    if not isinstance(policy, (Banded, Threshold)) or not is_shipped(type(policy)):
        return f"{in_short(policy)} says so"  # of a class of one's own, that may choose in any way
    value = float(requests.score(policy.score)[0])
    if isinstance(policy, Threshold):
        below = value < policy.at
        got, edge = _apart(value, policy.at)
        sign, word = ("<", "below") if below else (">=", "not below")
        return f"{policy.score} {got} {sign} {edge}: {word} the threshold"
    edges = [float(edge) for edge in policy.edges]
    band = int(np.searchsorted(edges, value, side="right"))
    low = "" if band == 0 else f"{_apart(value, edges[band - 1])[1]} <= "
    high = "" if band == len(edges) else f" < {_apart(value, edges[band])[1]}"
    return f"{low}{policy.score} {_apart(value, *edges)[0]}{high}: band {band + 1} of {len(edges) + 1}"


def _apart(value: float, *edges: float) -> tuple[str, str]:
    """A value and the first edge, in as few digits as tell it from all of the edges."""
    for digits in (2, 3, 4, 6, 9):
        shown = f"{value:.{digits}g}"
        if all((value == edge) == (float(shown) == float(f"{edge:.{digits}g}")) for edge in edges):
            break
    else:
        shown, digits = repr(value), 17
    return shown, f"{edges[0]:.{digits}g}" if edges else ""


__all__ = ["Asked", "ask", "one_request"]
