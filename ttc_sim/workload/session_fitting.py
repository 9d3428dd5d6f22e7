"""Laws of sessions, fitted to recorded ones, and how far what they generate is like sessions that they were not fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.scenario.session_laws import Generated
from ttc_sim.workload.session_generating import turns_by

PERSON_S = 60.0
"""Pauses from this length on are taken to be a person's, shorter ones tools'."""

_BLOCK = 64  # what was sent before is known in such blocks
_AT = (0.0, 0.01, 0.025, *(round(0.05 * k, 2) for k in range(1, 20)), 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)
_LEAST = 20  # sessions to fit to
_TIMES = 20  # more sessions generated than are compared with
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def fitted(turns: SessionTurns) -> Generated:
    """Laws fitted to recorded sessions.

    Turns, prompts, answers and pauses keep their quantiles; what turns of one session have alike is the part of the variance of
    normal scores that is between sessions. A context starts over where a prompt is shorter than the one before it, by more than a
    block; it is rewritten where it goes on, but was not sent before as far as the one before it.

    Raises:
        InputError: too few sessions.
    """
    if turns.sessions < _LEAST:
        raise InputError("sessions", "--fit", f"{turns.sessions} sessions", f"at least {_LEAST} to fit to")
    seen = _Seen.of(turns)
    main = seen.follows & (turns.agent == 0)
    person = main & (turns.think_s >= PERSON_S)
    tool = seen.follows & ~person
    laws: dict[str, Any] = {
        "turns": _quantiles(np.bincount(turns.session[turns.agent == 0]).astype(np.float64)),
        "first_prompt": _quantiles(turns.prompt_tokens[turns.first]),
        "first_with_turns": _rank_correlation(turns.turns, turns.prompt_tokens[turns.first]),
        "output": _of_turns(turns.output_tokens, turns.session),
        "added": _of_turns(seen.added[seen.goes_on], turns.session[seen.goes_on]),
        "think_s": _of_turns(turns.think_s[tool], turns.session[tool]),
        "rewritten": _share(seen.rewritten, tool),
        **_heads(turns, turns.first),
    }
    if person.any():
        laws["person"] = {
            "share": _share(person, main),
            "think_s": _of_turns(turns.think_s[person], turns.session[person]),
            "rewritten": _share(seen.rewritten, person),
        }
    if seen.over.any():
        laws["starts_over"] = _starts_over(turns, seen)
    sent_out = seen.begins & ~turns.first
    if sent_out.any():
        number = np.cumsum(seen.begins)[turns.agent > 0]
        laws["sub_agents"] = {
            "share": float(sent_out.sum() / (turns.agent == 0).sum()),
            "turns": _quantiles(np.bincount(number)[np.unique(number)].astype(np.float64)),
            "first_prompt": _quantiles(turns.prompt_tokens[sent_out]),
            **_heads(turns, sent_out),
        }
    return Generated.model_validate(laws)


@dataclass(frozen=True)
class _Seen:
    """What became of each turn's context: (n,) arrays.

    Attributes:
        begins: whether it is the first of its agent; follows: it is not.
        before: the turn before of its agent.
        added: tokens beyond the prompt before and its answer, at least 0.
        goes_on: it is longer, with all of the prompt before sent before; rewritten: not with all; over: it is shorter.
    """

    begins: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    before: I64
    added: I64
    goes_on: NDArray[np.bool_]
    rewritten: NDArray[np.bool_]
    over: NDArray[np.bool_]

    @staticmethod
    def of(turns: SessionTurns) -> _Seen:
        key = turns.session * (int(turns.agent.max(initial=0)) + 1) + turns.agent
        order = np.argsort(key, kind="stable")
        same = np.diff(key[order]) == 0
        before = np.full(len(turns), -1, dtype=np.int64)
        before[order[1:][same]] = order[:-1][same]
        follows, last = before >= 0, np.maximum(before, 0)
        grown = turns.prompt_tokens - turns.prompt_tokens[last]
        over = follows & (grown < -_BLOCK)
        # The last blocks of a prompt may be others once more follows them.
        whole = turns.reused_tokens >= turns.prompt_tokens[last] - 4 * _BLOCK
        goes_on = follows & ~over & whole
        added = np.maximum(grown - turns.output_tokens[last], 0)
        return _Seen(~follows, follows, before, added, goes_on, follows & ~over & ~whole, over)


def _share(some: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(some[among].mean()) if among.any() else 0.0


def _quantiles(values: NDArray[Any]) -> dict[str, Any]:
    found = np.quantile(values.astype(np.float64), _AT)
    return {"quantiles": tuple(float(f"{one:.4g}") for one in found), "at": _AT}


def _of_turns(values: NDArray[Any], session: I64) -> dict[str, Any]:
    if not len(values):
        return {"quantiles": (0.0, 0.0)}
    return {**_quantiles(values), "alike": round(_alike(values.astype(np.float64), session), 3)}


def _alike(values: F64, session: I64) -> float:
    """Part of the variance of normal scores that is between sessions, by analysis of variance of unequal groups."""
    n = len(values)
    _, number = np.unique(session, return_inverse=True)
    size = np.bincount(number)
    if len(size) < 2 or n == len(size):
        return 0.0
    score = ndtri((rankdata(values) - 0.5) / n)
    means = np.bincount(number, weights=score) / size
    within = float(((score - means[number]) ** 2).sum()) / (n - len(size))
    between = float((size * (means - score.mean()) ** 2).sum()) / (len(size) - 1)
    typical = (n - float((size.astype(np.float64) ** 2).sum()) / n) / (len(size) - 1)
    own = max((between - within) / typical, 0.0)
    return own / (own + within) if own + within > 0 else 0.0


def _rank_correlation(one: I64, other: I64) -> float:
    a, b = rankdata(one), rankdata(other)
    if not a.std() or not b.std():
        return 0.0
    return round(float(np.clip(np.corrcoef(a, b)[0, 1], -0.99, 0.99)), 3)


def _heads(turns: SessionTurns, which: NDArray[np.bool_]) -> dict[str, Any]:
    """Tools and system prompts: as many kinds as would be met twice as often as those that were recorded."""
    head = turns.head[which]
    if not (head >= 0).any():
        return {}
    head = head[head >= 0]
    tools, lengths = turns.heads[head, 0], turns.heads[head]
    kinds = _kinds(tools)
    both = max(_kinds(head), kinds)
    return {
        "tools": {"tokens": _quantiles(lengths[:, 1]), "kinds": min(round(kinds), 1000)},
        "system": {
            "tokens": _quantiles(lengths[:, 2] - lengths[:, 1]),
            "kinds": min(max(round(both / kinds), 1), 1000),
        },
    }


def _kinds(number: I64) -> float:
    """One over the chance that two are the same."""
    count = np.bincount(number).astype(np.float64)
    n = count.sum()
    pairs = float((count * (count - 1)).sum())
    return max(float(n * (n - 1)) / pairs, 1.0) if pairs else float(n)


def _starts_over(turns: SessionTurns, seen: _Seen) -> dict[str, Any]:
    """Contexts that start over: those near the longest prompt of their session for its length, others whatever that is.

    The length from which on prompts are too long is known of sessions that came to it; of others it is more than their longest
    prompt, and of all of them more than the first: the product-limit estimate of Kaplan and Meier (1958), with late entry.
    """
    over = np.flatnonzero(seen.over & (turns.agent == 0))
    longest = np.zeros(turns.sessions, dtype=np.int64)
    np.maximum.at(longest, turns.session, turns.prompt_tokens)
    left = {"left": _quantiles(turns.prompt_tokens[seen.over])}
    follows = seen.follows & (turns.agent == 0)
    if not len(over):
        return {**left, "share": _share(seen.over, seen.follows)}
    before = turns.prompt_tokens[seen.before[over]]
    at_most = before >= 0.9 * longest[turns.session[over]]
    came = np.zeros(turns.sessions, dtype=np.bool_)
    came[turns.session[over[at_most & (turns.session[over] >= 0)]]] = True
    early = int((~at_most).sum())
    found = {**left, "share": round(early / max(int(follows.sum()), 1), 6)}
    if came.any():
        found["above"] = _limits(turns.prompt_tokens[turns.start[:-1]], longest, came)
    return found


def _limits(first: I64, longest: I64, came: NDArray[np.bool_]) -> dict[str, Any]:
    """Quantiles of limits, of which some are known only to be more, and all to be more than the first prompt of their session;
    those beyond all that were seen are twice the longest."""
    values = np.unique(longest[came])
    at_risk = np.array([((first <= v) & (longest >= v)).sum() for v in values])
    ended = np.array([(came & (longest == v)).sum() for v in values])
    upto = np.append(1 - np.cumprod(1 - ended / np.maximum(at_risk, 1)), 1.0)
    limits = np.append(values, 2 * int(longest.max())).astype(np.float64)
    at = np.minimum(np.searchsorted(upto, np.array(_AT) - 1e-12), len(limits) - 1)
    return {"quantiles": tuple(float(f"{one:.4g}") for one in limits[at]), "at": _AT}


@dataclass(frozen=True)
class Match:
    """One quantity of sessions, recorded and generated.

    Attributes:
        name: of it, with its unit.
        recorded, generated: its mean, and its quantiles at :data:`SHARES`.
        distance: the greatest difference between the two distribution functions, 0 to 1 (Kolmogorov and Smirnov).
        by_chance: that of the recorded sessions that laws were fitted to from those that they were not.
    """

    name: str
    recorded: tuple[float, ...]
    generated: tuple[float, ...]
    distance: float
    by_chance: float


def quantities(turns: SessionTurns) -> Mapping[str, F64]:
    """What sessions are compared by: of each session, or of each turn."""
    seen = _Seen.of(turns)
    follows, last = seen.follows, np.maximum(seen.before, 0)
    grown = turns.prompt_tokens - turns.prompt_tokens[last]
    prompts = np.bincount(turns.session, weights=turns.prompt_tokens)
    reused = np.bincount(turns.session, weights=turns.reused_tokens // _BLOCK * _BLOCK)
    return {
        "turns a session": turns.turns.astype(np.float64),
        "first prompt, tokens": turns.prompt_tokens[turns.first].astype(np.float64),
        "prompt, tokens": turns.prompt_tokens.astype(np.float64),
        "growth a turn, tokens": grown[follows].astype(np.float64),
        "answer, tokens": turns.output_tokens.astype(np.float64),
        "pause before a turn, s": turns.think_s[follows],
        "reused part of a session": reused / prompts,
        "longest prompt of a session, tokens": np.maximum.reduceat(turns.prompt_tokens, turns.start[:-1]).astype(
            np.float64
        ),
    }


def reused_share(turns: SessionTurns) -> float:
    """Part of all prompts' tokens that was sent before in the same session."""
    return float(turns.reused_tokens.sum() / turns.prompt_tokens.sum())


def figures(values: F64) -> tuple[float, ...]:
    """Mean, and quantiles at :data:`SHARES`."""
    return float(values.mean()), *(float(one) for one in np.quantile(values, SHARES))


@dataclass(frozen=True)
class Compared:
    """Sessions that laws were not fitted to, beside what the laws generate.

    Attributes:
        fitted_to, held_back: sessions of each half.
        matches: by quantity, as far as there are any on both sides.
        reused: part of all prompts' tokens that was sent before, recorded and generated.
    """

    fitted_to: int
    held_back: int
    matches: tuple[Match, ...]
    reused: tuple[float, float]


def compare(turns: SessionTurns, seed: int = 0) -> Compared:
    """Fit to half of the sessions, drawn at random, and hold what the laws generate against the other half.

    Raises:
        InputError: too few sessions.
    """
    order = np.argsort(uniforms(seed, "sessions/halves", turns.sessions)[:, 0], kind="stable")
    half = len(order) // 2
    if half < _LEAST:
        many = f"{turns.sessions} session{'s' * (turns.sessions != 1)}"
        raise InputError("sessions", "--fit", many, f"at least {2 * _LEAST}: laws are fitted to half of them")
    to_fit, held = turns.of_sessions(np.sort(order[:half])), turns.of_sessions(np.sort(order[half:]))
    made = turns_by(fitted(to_fit), _TIMES * held.sessions, seed, "sessions/compared", "sessions")
    recorded, known = quantities(held), quantities(to_fit)
    drawn = quantities(made)
    # Sessions of a turn each have no pauses, and do not grow.
    there = [name for name in recorded if all(len(one[name]) for one in (recorded, known, drawn))]
    generated = {name: _as_exact(drawn[name], recorded[name]) for name in there}
    matches = tuple(
        Match(
            name,
            figures(recorded[name]),
            figures(generated[name]),
            _distance(recorded[name], generated[name]),
            _distance(recorded[name], known[name]),
        )
        for name in there
    )
    return Compared(to_fit.sessions, held.sessions, matches, (reused_share(held), reused_share(made)))


def _as_exact(values: F64, recorded: F64) -> F64:
    """As exact as most of what was recorded: pauses often are in whole seconds."""
    return np.round(values) if (recorded == np.round(recorded)).mean() > 0.9 else values


def _distance(one: F64, other: F64) -> float:
    at = np.concatenate([one, other])
    upto = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (one, other)]
    return float(np.abs(upto[0] - upto[1]).max())


__all__ = ["PERSON_S", "SHARES", "Compared", "Match", "compare", "figures", "fitted", "quantities", "reused_share"]
