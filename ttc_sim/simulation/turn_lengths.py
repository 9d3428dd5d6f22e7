"""Turns that are longer or shorter by the arm that answers them, and what that leaves in later prompts of their session.

A session's lengths are those of the model that it was recorded with. An arm whose model writes more (``turn_tokens`` above 1) has
longer answers, and what stands in them is part of the prompts that follow, as far as those hold the answer at all: until the
context is made shorter, or the conversation goes back behind it. Hidden reasoning is no part of later prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ttc_sim.base.compilation import kept
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.policies import ENDED, Policy, Requests, choose_arms
from ttc_sim.policies.memory import places_of
from ttc_sim.simulation.drawing import Draws, as_requests, turns_of
from ttc_sim.simulation.model import Model
from ttc_sim.workload import Traffic


def chosen(model: Model, policy: Policy, draws: Draws) -> tuple[Draws, Requests, I64]:
    """The arms that a policy sends requests to before a run; the requests, as long as those make them, and as the policy sees them.

    A turn's prompt is as long as the arms of the turns before it have made it. So the policy is asked again until what it
    chooses is what it was shown: each time at least one more turn of every session is settled.

    Raises:
        InputError: a policy that goes by a turn's own answer, which its own choice makes longer or shorter, and never settles.
    """
    requests = as_requests(model, draws)
    arm = choose_arms(policy, requests, model.arm_names)
    if not model.turns_vary:
        return draws, requests, arm
    most = 2 + int(np.bincount(np.maximum(_sessions(model, draws) + 1, 0))[1:].max(initial=0))
    for _ in range(most):
        longer = lengthened(model, draws, arm)
        requests = as_requests(model, longer)
        again = choose_arms(policy, requests, model.arm_names)
        if np.array_equal(again, arm):
            return longer, requests, arm
        arm = again
    expected = "one that goes by the turns before: what it chooses makes a turn longer or shorter, and it then chooses another arm"
    raise InputError(model.scenario.path, "policy", repr(policy), expected)


def may_be_live(model: Model) -> bool:
    """Whether arms may be chosen during a run: how long later prompts are is fixed before one."""
    return len({arm.turn_tokens for arm in model.arms}) <= 1


def refuse_live(model: Model) -> None:
    """Refuse arms that are chosen during the run, where that makes later prompts longer or shorter.

    Raises:
        InputError: they differ in ``turn_tokens``.
    """
    if not may_be_live(model):
        arm = next(one for one in model.arms if one.turn_tokens != 1.0)
        expected = "the same for all arms, with a policy that looks at live load: how long later prompts are is fixed before a run"
        raise InputError(
            model.scenario.path, f"arms.{arm.name}.turn_tokens", model.scenario.arms[arm.name].turn_tokens, expected
        )


def lengthened(model: Model, draws: Draws, arm: I64) -> Draws:
    """The requests with turns as long as the arms that answer them make them, and all that follows in their sessions.

    Args:
        arm: (n,) index of each one's arm, or :data:`~ttc_sim.policies.ENDED`.
    """
    if not model.turns_vary or draws.lengthened:
        return draws
    traffic, session = draws.traffic, _sessions(model, draws)
    if traffic.prompt_tokens is None or traffic.visible_tokens is None or traffic.reused_tokens is None:
        raise InputError("workload", "arrivals", "no lengths", "sessions whose turns carry token lengths")
    n = len(draws)
    times = np.where((arm == ENDED) | (session < 0), 1.0, np.array([one.turn_tokens for one in model.arms])[arm])
    caps = [one.strategy.attempt_cap for one in model.arms]
    most = np.array([np.iinfo(np.int64).max if cap is None else cap for cap in caps])[arm]
    prompt, visible = traffic.prompt_tokens, traffic.visible_tokens
    hidden = np.zeros(n, dtype=np.int64) if traffic.reasoning_tokens is None else traffic.reasoning_tokens
    hidden_now, visible_now = (np.rint(part * times).astype(np.int64) for part in (hidden, visible))
    empty = (hidden_now + visible_now == 0) & (hidden + visible > 0)
    visible_now[empty] = 1
    # What a cap cuts off stays in no prompt, however long it would have been.
    before = _within(hidden, visible, most)
    more = _within(hidden_now, visible_now, most) - before
    turns = turns_of(traffic)
    assert turns is not None
    places = places_of(turns, prompt)
    added, holds = _added(places.conversation, prompt, traffic.reused_tokens, before, more, places.conversations)
    longer = np.maximum(prompt + added, 1)
    again = traffic.reused_tokens
    share = (hidden_now + visible_now) / np.maximum(hidden + visible, 1)
    places_in = _Places(prompt, hidden + visible, share, added, holds)
    until = places_in.until(np.arange(n), again)
    changed = replace(
        traffic,
        prompt_tokens=longer,
        reasoning_tokens=None if traffic.reasoning_tokens is None else hidden_now,
        visible_tokens=visible_now,
        reused_tokens=np.where(again > 0, np.clip(again + until, 0, longer), 0),
    )
    if traffic.prefix_id is not None and traffic.prefix_tokens is not None:
        changed = _with_prefixes(changed, traffic.prefix_id, traffic.prefix_tokens, places_in)
    return replace(draws, traffic=changed, lengthened=True, memory=None)


@dataclass(frozen=True)
class _Places:
    """Prompts as they were, (n,) tokens; what each is answered with, and how many times as much by now; by how much each prompt is
    longer, and the last turn whose answer it holds."""

    prompt: I64
    answer: I64
    share: F64
    added: I64
    holds: I64

    def until(self, which: I64, at: I64) -> I64:
        """(m,) by how much some prompts are longer up to a place in each."""
        found: I64 = _until(which, at, self.prompt, self.answer, self.share, self.added, self.holds)
        return found


def _with_prefixes(traffic: Traffic, node: I64, ends: I64, places: _Places) -> Traffic:
    """The same, with what prompts have in common where it stands by now; ``ends``: where what each shares ended."""
    longer = traffic.prompt_tokens
    assert longer is not None
    past = np.maximum(ends - places.prompt, 0)  # of the answer, where it is part of a later prompt
    within = np.clip(ends + places.until(np.arange(len(ends)), ends), 0, longer)
    now = np.where(ends < places.prompt, within, longer + np.floor(past * places.share).astype(np.int64))
    if traffic.prefixes is None:
        return replace(traffic, prefix_tokens=now)
    parent, start = traffic.prefixes.parent, traffic.prefixes.start
    through = _through(parent, node)
    known = np.flatnonzero(through >= 0)
    begins = start.copy()
    begins[known] += places.until(through[known], start[known])
    begins = _ordered(parent, begins)
    first = np.where(node >= 0, begins[node], 0)
    return replace(
        traffic,
        prompt_tokens=np.maximum(longer, first),
        prefix_tokens=np.maximum(now, first),
        prefixes=PrefixTree(parent, begins),
    )


def _sessions(model: Model, draws: Draws) -> I64:
    session = draws.traffic.session
    if session is None:
        arm = next(one for one in model.arms if one.turn_tokens != 1.0)
        expected = "none: no request is a turn of a session"
        raise InputError(
            model.scenario.path, f"arms.{arm.name}.turn_tokens", model.scenario.arms[arm.name].turn_tokens, expected
        )
    return session


def _within(hidden: I64, visible: I64, most: I64) -> I64:
    """Visible tokens that a cap leaves."""
    return np.minimum(visible, most - np.minimum(hidden, most))


@kept("turn_lengths", [Path(__file__)])
def _added(conversation: I64, prompt: I64, reused: I64, visible: I64, more: I64, conversations: int) -> tuple[I64, I64]:
    """(n,) tokens by which each prompt is longer, for answers in it that are; and the last turn whose answer it holds, or -1.

    A prompt that is longer than that of the turn before holds its answer, though something before it may have changed, so that less
    of it was sent before.
    """
    n = len(prompt)
    added, holds = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    latest = np.full(conversations, -1, dtype=np.int64)
    for i in range(n):
        c = conversation[i]
        if c < 0:
            continue
        k = latest[c]
        if k >= 0 and prompt[i] <= prompt[k]:
            # Its context was made shorter, or goes back: of what was sent before it has what is sent again.
            while k >= 0 and prompt[k] >= min(reused[i], prompt[i]):
                k = holds[k]
        if k >= 0:
            grew = min(prompt[i] - prompt[k], visible[k])  # an answer of which less follows was not kept whole
            added[i] = added[k]
            if visible[k] > 0:
                added[i] += int(np.rint(more[k] * grew / visible[k]))
        holds[i], latest[c] = k, i
    return added, holds


@kept("turn_lengths", [Path(__file__)])
def _until(which: I64, at: I64, prompt: I64, answer: I64, share: F64, added: I64, holds: I64) -> I64:
    """(m,) by how much some prompts are longer up to a place in each, for answers, or parts of one, before that."""
    out = added[which]
    for i in range(len(at)):
        k = holds[which[i]]
        while k >= 0 and prompt[k] >= at[i]:
            out[i] = added[k]
            k = holds[k]
        if k >= 0 and at[i] < prompt[k] + answer[k]:
            part = at[i] - prompt[k]
            out[i] = added[k] + int(np.floor(part * share[k])) - part
    return out


@kept("turn_lengths", [Path(__file__)])
def _ordered(parent: I64, begins: I64) -> I64:
    """(nodes,) the same, none of them before its parent, and those without one at 0."""
    for v in range(len(parent)):
        begins[v] = 0 if parent[v] < 0 else max(begins[v], begins[parent[v]])
    return begins


@kept("turn_lengths", [Path(__file__)])
def _through(parent: I64, node: I64) -> I64:
    """(nodes,) the first prompt that is at each or, where none is, that goes through it; -1 of none."""
    first = np.full(len(parent), -1, dtype=np.int64)
    for i in range(len(node) - 1, -1, -1):
        if node[i] >= 0:
            first[node[i]] = i
    for v in range(len(parent) - 1, -1, -1):
        u = parent[v]
        if u >= 0 and first[u] < 0:
            first[u] = first[v]
    return first


__all__ = ["chosen", "lengthened", "may_be_live", "refuse_live"]
