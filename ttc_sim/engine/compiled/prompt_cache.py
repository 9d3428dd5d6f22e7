"""Prompt caches of the compiled engine's endpoints; the meaning is that of :class:`ttc_sim.engine.prompt_cache.PromptCache`.

What is kept at a node of the tree is a list, the longest first. Whoever uses one uses all that are shorter, so these are not looked
at: one was last used when it, or any before it in its list, was. Those that are over come first, therefore.
"""

from __future__ import annotations

import numpy as np

from ttc_sim.engine.compiled.jit import compiled, inlined
from ttc_sim.engine.compiled.state import FREE_KEPT, HAS_PREFIX_TOKENS, NODES, Memory


@inlined
def has_prefix(m: Memory, stage: int) -> bool:
    """Whether its prompt has anything in common with others."""
    return bool(m.prefix_id[stage] >= 0 and (m.counters[HAS_PREFIX_TOKENS] == 0 or m.prefix_tokens[stage] > 0))


@inlined
def in_steps(m: Memory, d: int, tokens: int) -> int:
    """Of so many tokens, those that may be kept."""
    tokens -= tokens % m.deployments[d].cache_step
    return int(tokens) if tokens >= m.deployments[d].cache_least else 0


@compiled
def shared_of(m: Memory, d: int, stage: int, tokens: int) -> int:
    """Of so many tokens of its prompt and answer, those in common with others that the cache may have."""
    if not has_prefix(m, stage):
        return 0
    most = m.prefix_tokens[stage] if m.counters[HAS_PREFIX_TOKENS] else m.prompt_tokens[stage]
    return int(in_steps(m, d, min(tokens, most)))


@inlined
def _is_over(m: Memory, d: int, i: int, now_s: float) -> bool:
    return bool(now_s > m.kept[i].used_s + m.deployments[d].cache_ttl_s)


@compiled
def find_kept(m: Memory, d: int, stage: int, upto: int, now_s: float) -> int:
    """Leading tokens of a prompt that are kept."""
    dep = m.deployments[d]
    node = m.prefix_id[stage]
    while node >= 0:
        start = m.node_start[node]
        if start < upto:
            i = m.kept_first[dep.cache * m.counters[NODES] + node]
            used = False
            while i >= 0:
                one = m.kept[i]
                used = used or not _is_over(m, d, i, now_s)
                if used and one.from_s <= now_s and (dep.cache_marks == 0 or one.end <= upto):
                    return int(in_steps(m, d, min(one.end, upto)))
                i = one.following
            upto = start
        node = m.node_parent[node]
    return 0


@compiled
def _keep(m: Memory, d: int, node: int, end: int, from_s: float, now_s: float) -> None:
    place = m.deployments[d].cache * m.counters[NODES] + node
    i = m.kept_first[place]
    while i >= 0 and _is_over(m, d, i, now_s):
        m.free_kept[m.counters[FREE_KEPT]] = i
        m.counters[FREE_KEPT] += 1
        i = m.kept[i].following
    m.kept_first[place] = i
    before = -1
    while i >= 0 and m.kept[i].end > end:
        if m.deployments[d].cache_marks == 0:  # what is kept further is kept up to here
            from_s = min(from_s, m.kept[i].from_s)
        before = i
        i = m.kept[i].following
    if i >= 0 and m.kept[i].end == end:
        m.kept[i].from_s, m.kept[i].used_s = min(m.kept[i].from_s, from_s), now_s
    else:
        m.counters[FREE_KEPT] -= 1
        new = m.free_kept[m.counters[FREE_KEPT]]
        m.kept[new].end, m.kept[new].following = end, i
        m.kept[new].from_s, m.kept[new].used_s = from_s, now_s
        if before < 0:
            m.kept_first[place] = new
        else:
            m.kept[before].following = new
        i = new
    if m.deployments[d].cache_marks:
        return
    # Shorter ones that are no sooner there, and no later over, than one that goes further.
    after = m.kept[i].following
    while after >= 0:
        sooner = m.kept[i].from_s <= max(m.kept[after].from_s, now_s)
        if sooner and m.kept[i].used_s >= m.kept[after].used_s:
            m.kept[i].following = m.kept[after].following
            m.free_kept[m.counters[FREE_KEPT]] = after
            m.counters[FREE_KEPT] += 1
        else:
            i = after
        after = m.kept[i].following


@compiled
def _touch(m: Memory, d: int, node: int, end: int, now_s: float) -> None:
    """What is kept at a node up to there is used."""
    i = m.kept_first[m.deployments[d].cache * m.counters[NODES] + node]
    used = False
    while i >= 0:
        used = used or not _is_over(m, d, i, now_s)
        if used and m.kept[i].end <= end:
            m.kept[i].used_s = now_s
            return
        i = m.kept[i].following


@compiled
def _mark(m: Memory, d: int, stage: int, shared: int, found: int, now_s: float, first_s: float) -> None:
    """Keep a prompt up to the places that are marked."""
    marks = m.deployments[d].cache_marks
    if marks == 1 and shared < m.prompt_tokens[stage]:
        return
    least = m.deployments[d].cache_least
    # Places where its path goes on, from the last to the first: the last is marked and, of more than two, the one before; then
    # the first ones.
    branches, last = -1, 1 if marks <= 2 else 2
    for count in (True, False):
        node, end = m.prefix_id[stage], shared
        place = -1
        while node >= 0:
            start = m.node_start[node]
            if start < end:
                place += 1
                if count and end >= least:
                    branches = place
                if not count and end >= least and (place < last or place > branches - (marks - last)):
                    _keep(m, d, node, end, now_s if end <= found else first_s, now_s)
                end = start
            node = m.node_parent[node]


@compiled
def use_kept(
    m: Memory, d: int, stage: int, shared: int, found: int, now_s: float, first_s: float, answer: int, whole_s: float
) -> int:
    """A call is accepted; how much of its prompt is kept from its first token on, and was not found."""
    marks = m.deployments[d].cache_marks
    begins = first_s < np.inf
    node, end = m.prefix_id[stage], shared if begins else found
    while node >= 0:
        start = m.node_start[node]
        if start < end:
            if marks > 0:
                _touch(m, d, node, end, now_s)
            else:
                _keep(m, d, node, end, now_s if end <= found else first_s, now_s)
            end = start
        node = m.node_parent[node]
    if not begins:
        return 0
    if marks > 0 and shared > 0:
        _mark(m, d, stage, shared, found, now_s, first_s)
    node, end = m.prefix_id[stage], answer
    while node >= 0 and end > shared:
        start = m.node_start[node]
        if start < end:
            _keep(m, d, node, end, whole_s, now_s)
            end = start
        node = m.node_parent[node]
    return int((shared if marks > 1 else in_steps(m, d, m.prompt_tokens[stage])) - found)
