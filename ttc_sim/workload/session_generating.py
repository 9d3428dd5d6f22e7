"""Sessions by laws: how many turns, what they send and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ttc_sim.base.compilation import kept
from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.session_turns import SessionTurns
from ttc_sim.scenario.session_laws import MOST_TURNS, Amount, Generated, Head, OfTurns

Bools = NDArray[np.bool_]

_Z95 = float(ndtri(0.95))
_MIDPOINTS = (np.arange(100_000) + 0.5) / 100_000
_FIRST, _MAIN, _FIRST_OF_SUB, _SUB = range(4)
# Columns of the draws of each session, and of each turn.
_TURNS, _PROMPT, _TOOLS, _SYSTEM, _OUTPUT, _ADDED, _THINK, _PERSON_THINK, _ABOVE = range(9)
_OF_TURN = 8
_SUB_STARTS, _SUB_TURNS, _SUB_PROMPT, _SUB_TOOLS, _SUB_SYSTEM = range(5)


def quantile(law: Amount, u: F64) -> F64:
    """Values of a law at probabilities.

    >>> quantile(Amount(median=100, p95=1000), np.array([0.5, 0.95])).round(6)
    array([ 100., 1000.])
    >>> quantile(Amount(quantiles=(0, 9, 99)), np.array([0.0, 0.25, 1.0])).round(2)
    array([ 0.  ,  2.16, 99.  ])
    """
    if law.quantiles is None:
        assert law.median is not None
        assert law.p95 is not None
        return np.asarray(law.median * np.exp(np.log(law.p95 / law.median) / _Z95 * ndtri(u)))
    if law.quantiles[0] == law.quantiles[-1]:
        return np.full(len(u), law.quantiles[0])
    return np.asarray(np.expm1(np.interp(u, *_steps(law))))


def probability(law: Amount, values: F64) -> F64:
    """Of less than values; the other way round."""
    if law.quantiles is None:
        assert law.median is not None
        assert law.p95 is not None
        spread = max(np.log(law.p95 / law.median) / _Z95, 1e-12)
        return np.asarray(ndtr(np.log(np.maximum(values, 1e-300) / law.median) / spread))
    at, quantiles = _steps(law)
    values = np.log1p(values)
    return np.asarray(np.where(values > quantiles[-1], 1.0, np.interp(values, quantiles, at)))


def _steps(law: Amount) -> tuple[F64, F64]:
    """Probabilities, and logarithms of the quantiles plus 1."""
    assert law.quantiles is not None
    at = np.linspace(0, 1, len(law.quantiles)) if law.at is None else np.array(law.at)
    return at, np.log1p(np.array(law.quantiles))


def whole(law: Amount, u: F64, least: int, most: int) -> I64:
    """The same, rounded, and within bounds."""
    return np.clip(np.round(quantile(law, u)), least, most).astype(np.int64)


def mean(law: Amount, least: int, most: int) -> float:
    """Of such whole numbers."""
    return float(whole(law, _MIDPOINTS, least, most).mean())


def mean_turns(laws: Generated) -> float:
    """Requests of a session, sub-agents' too."""
    main = mean(laws.turns, 1, MOST_TURNS)
    subs = laws.sub_agents
    return main if subs is None else main * (1 + subs.share * mean(subs.turns, 1, MOST_TURNS))


def turns_by(laws: Generated, count: int, seed: int, stream: str, where: str) -> SessionTurns:
    """So many sessions; the first of them are the same however many there are.

    Raises:
        InputError: a context that nothing ends grows beyond what a prompt can have.
    """
    u = uniforms(seed, f"{stream}/session", count, 9)
    main = whole(laws.turns, u[:, _TURNS], 1, MOST_TURNS)
    session = np.repeat(np.arange(count), main)
    m = len(session)
    first_main = np.concatenate([[0], np.cumsum(main)]).astype(np.int64)
    sub_turns, sub = np.zeros(m, dtype=np.int64), np.empty((0, 5))
    if laws.sub_agents is not None:
        sub = uniforms(seed, f"{stream}/sub-agents", m, 5)
        sent = sub[:, _SUB_STARTS] < laws.sub_agents.share
        sub_turns[sent] = whole(laws.sub_agents.turns, sub[sent, _SUB_TURNS], 1, MOST_TURNS)
    # Each turn of the session's own agent, then those of the sub-agent that it sends out.
    at = np.arange(m) + np.concatenate([[0], np.cumsum(sub_turns)[:-1]]).astype(np.int64)
    n = m + int(sub_turns.sum())
    own = np.zeros(n, dtype=np.bool_)
    own[at] = True
    of = np.cumsum(own) - 1  # the own turn that each is, or that sent its agent out
    kind = np.where(own, _MAIN, _SUB)
    start = np.concatenate([at, [n]])[first_main]
    kind[start[:-1]] = _FIRST
    kind[at[sub_turns > 0] + 1] = _FIRST_OF_SUB
    v = uniforms(seed, f"{stream}/turn", n, _OF_TURN)
    own_session = session[of]

    def of_turns(law: OfTurns, column: int, session_column: int) -> F64:
        if not law.alike:
            return quantile(law, v[:, column])
        of_session = np.sqrt(law.alike) * ndtri(u[:, session_column])
        return quantile(law, ndtr(of_session[own_session] + np.sqrt(1 - law.alike) * ndtri(v[:, column])))

    output = np.clip(np.round(of_turns(laws.output, 0, _OUTPUT)), 1, MOST_TOKENS).astype(np.int64)
    added = np.clip(np.round(of_turns(laws.added, 1, _ADDED)), 0, MOST_TOKENS).astype(np.int64)
    think_s = of_turns(laws.think_s, 2, _THINK)
    anew = v[:, 4] < laws.rewritten
    if laws.person is not None:
        person = own & (v[:, 3] < laws.person.share)
        think_s = np.where(person, of_turns(laws.person.think_s, 5, _PERSON_THINK), think_s)
        anew = np.where(person, v[:, 4] < laws.person.rewritten, anew)
    think_s = np.where((kind == _FIRST) | (kind == _FIRST_OF_SUB), 0.0, think_s)
    head, heads = _heads(laws, u, sub, of, own, own_session)
    tokens = heads[head, 2] if len(heads) else np.zeros(n, dtype=np.int64)
    first = whole(laws.first_prompt, _correlated(laws.first_with_turns, u), 1, MOST_TOKENS)[own_session]
    if laws.sub_agents is not None:
        of_sub = whole(laws.sub_agents.first_prompt, sub[:, _SUB_PROMPT], 1, MOST_TOKENS)[of]
        first = np.where(own, first, of_sub)
    over, left, above = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.int64), np.full(n, MOST_TOKENS * 2)
    if laws.starts_over is not None:
        over = v[:, 6] < laws.starts_over.share
        left = whole(laws.starts_over.left, v[:, 7], 1, MOST_TOKENS)
        if laws.starts_over.above is not None:
            less = probability(laws.starts_over.above, first[start[:-1]].astype(np.float64))
            longer = np.where(less < 1, less + (1 - less) * u[:, _ABOVE], u[:, _ABOVE])
            above = whole(laws.starts_over.above, longer, 1, MOST_TOKENS)[own_session]
    prompt, reused, reuses = _grown(kind, first, output, added, anew, over, left, above, tokens)
    if n and int(prompt.max()) > MOST_TOKENS:
        expected = "shorter ones, or starts_over: a prompt grows to more tokens than there can be"
        raise InputError(where, "workload.arrivals.generated", f"a prompt of {prompt.max():,} tokens", expected)
    agent = np.where(own, 0, 1 + np.cumsum(kind == _FIRST_OF_SUB) - _before(kind == _FIRST_OF_SUB, start) - 1)
    return SessionTurns(
        start=start,
        agent=agent,
        think_s=think_s,
        prompt_tokens=prompt,
        reasoning_tokens=np.zeros(n, dtype=np.int64),
        visible_tokens=output,
        reused_tokens=reused,
        reuses=reuses,
        head=head if len(heads) else np.full(n, -1, dtype=np.int64),
        heads=heads,
    )


def _before(some: Bools, start: I64) -> I64:
    """(n,) how many there were before each one's session."""
    upto = np.concatenate([[0], np.cumsum(some)])
    return np.repeat(upto[start[:-1]], np.diff(start))


def _correlated(correlation: float, u: F64) -> F64:
    """(count,) probabilities of first prompts that go with those of the turns."""
    if not correlation:
        return u[:, _PROMPT]
    rho = 2 * np.sin(np.pi * correlation / 6)  # of normals whose ranks are so correlated
    z = rho * ndtri(u[:, _TURNS]) + np.sqrt(1 - rho * rho) * ndtri(u[:, _PROMPT])
    return np.asarray(ndtr(z))


def _heads(laws: Generated, u: F64, sub: F64, of: I64, own: Bools, session: I64) -> tuple[I64, I64]:
    """(n,) the head of each turn, and what all of them are: as many as there may be, whether they are met or not."""
    parts: list[I64] = []
    found, tools = np.full(len(of), -1, dtype=np.int64), 0
    mine = [(laws.tools, laws.system, own, u[session, _TOOLS], u[session, _SYSTEM])]
    if laws.sub_agents is not None:
        drawn = sub[of, _SUB_TOOLS], sub[of, _SUB_SYSTEM]
        mine.append((laws.sub_agents.tools, laws.sub_agents.system, ~own, *drawn))
    for tool, system, which, at, within in mine:
        if tool is None and system is None:
            continue
        kinds, each = 1 if tool is None else tool.kinds, 1 if system is None else system.kinds
        number = np.repeat(np.arange(kinds), each)
        lengths = _lengths(tool, kinds)[number]
        whole_head = lengths + _lengths(system, kinds * each)
        before = sum(len(one) for one in parts)
        parts.append(np.column_stack([tools + number, lengths, whole_head]))
        tools += kinds
        chosen = (at * kinds).astype(np.int64) * each + (within * each).astype(np.int64)
        found[which] = before + chosen[which]
    heads = np.concatenate(parts) if parts else np.empty((0, 3), dtype=np.int64)
    return found, heads


def _lengths(head: Head | None, kinds: int) -> I64:
    """Of kinds of tools or system prompts: its law at even steps, in an order of its own."""
    if head is None:
        return np.zeros(kinds, dtype=np.int64)
    order = np.argsort(uniforms(0, f"heads/{kinds}", kinds)[:, 0], kind="stable")
    return whole(head.tokens, (order + 0.5) / kinds, 0, MOST_TOKENS)


@kept("sessions", [Path(__file__)])
def _grown(
    kind: I64, first: I64, output: I64, added: I64, anew: Bools, over: Bools, left: I64, above: I64, head: I64
) -> tuple[I64, I64, I64]:
    """Tokens of each prompt, how many of them were sent before, and in which turn."""
    n = len(kind)
    prompt, reused, reuses = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.full(n, -1)
    main = last = 0
    for i in range(n):
        if kind[i] == 0 or kind[i] == 2:
            prompt[i] = max(first[i], head[i] + 1)
        else:
            j = main if kind[i] == 1 else last
            grown = prompt[j] + output[j] + added[i]
            shared = prompt[j]
            if anew[i]:
                shared = head[i]
            if over[i] or grown > above[i]:
                grown = max(min(left[i], above[i]), head[i] + 1)
                shared = head[i]
            prompt[i], reused[i] = grown, shared
            reuses[i] = j if shared > 0 else -1
        if kind[i] < 2:
            main = i
        last = i
    return prompt, reused, reuses


__all__ = ["mean", "mean_turns", "quantile", "turns_by", "whole"]
