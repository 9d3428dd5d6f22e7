"""The prompt cache of an API endpoint, prompt by prompt: what the compiled engine does in fewer steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.scenario.api_cache import CacheRules


@dataclass(eq=False)
class _Kept:
    """Tokens of prompts from the first on, to ``end`` within a node of the tree.

    ``from_s``: when the first answer to a prompt that has them began; ``used_s``: when a call last began with them.
    """

    end: int
    from_s: float
    used_s: float


class PromptCache:
    """What one endpoint keeps of the prompts that it was sent.

    Whatever a call begins with that is kept, and was kept by the time that the call is accepted, it finds. What it finds is used
    again, and kept for ``ttl_s`` from then on, that moment included. The rest of its prompt is kept from its first token on.

    Args:
        rules: of the cache.
        tree: what prompts have in common; nothing if ``None``.
    """

    def __init__(self, rules: CacheRules, tree: PrefixTree | None) -> None:
        self.rules, self.tree = rules, tree
        self.kept: dict[int, list[_Kept]] = {}

    def shared(self, tokens: int) -> int:
        """Of so many tokens that a prompt has in common with others, those that may be kept."""
        tokens -= tokens % self.rules.step_tokens
        return tokens if tokens >= self.rules.min_tokens else 0

    def find(self, node: int, shared: int, now_s: float) -> int:
        """Leading tokens of a prompt that are kept: of one at that node, which is ``shared`` that far."""
        found = 0
        for at, upto in self._path(node, shared):
            for one in self.kept.get(at, []):
                if one.from_s > now_s or self._over(one, now_s):
                    continue
                if not self.rules.breakpoints:
                    found = max(found, min(one.end, upto))
                elif one.end <= upto:
                    found = max(found, one.end)
        return self.shared(found)

    def use(
        self, node: int, prompt: int, shared: int, found: int, now_s: float, first_s: float, answer: tuple[int, float]
    ) -> int:
        """A call is accepted; how much of its prompt is kept from its first token on, and was not found.

        Args:
            node, shared, found: of its prompt, as for :meth:`find`; prompt: its tokens.
            now_s: when it is accepted.
            first_s: when its first token comes; infinity if none does.
            answer: tokens of prompt and answer that are shared, where answers are kept, and when it is whole.
        """
        begins = first_s < math.inf
        upto = shared if begins else found
        for at, end in self._path(node, max(upto, answer[0])):
            for one in self.kept.get(at, []):
                if one.end <= end and not self._over(one, now_s):
                    one.used_s = now_s
        places = (
            self._path(node, upto)
            if not self.rules.breakpoints
            else self._marked(node, prompt, shared)
            if begins
            else []
        )
        for at, end in places:
            self._keep(at, end, now_s if end <= found else first_s, now_s)
        for at, end in self._path(node, answer[0]):
            if end > shared:
                self._keep(at, end, answer[1], now_s)
        kept = shared if self.rules.breakpoints > 1 else self.shared(prompt)
        return kept - found if begins else 0

    def _marked(self, node: int, prompt: int, shared: int) -> list[tuple[int, int]]:
        """Places that are marked, and that others may find: of one the prompt's end, of more first that of what it shares; of three
        and four then the place before it, where others may have parted from it."""
        left, path = self.rules.breakpoints, self._path(node, shared)
        if left == 1 and shared < prompt:
            return []
        marked = path[:1]
        for place in [*(path[1:2] if left > 2 else []), *path[:0:-1]]:
            if len(marked) < left and place[1] >= self.rules.min_tokens and place not in marked:
                marked.append(place)
        return marked

    def _keep(self, node: int, end: int, from_s: float, now_s: float) -> None:
        kept = self.kept.setdefault(node, [])
        kept[:] = [one for one in kept if not self._over(one, now_s)]
        if not self.rules.breakpoints:  # what is kept further is kept up to here
            from_s = min([from_s, *(one.from_s for one in kept if one.end > end)])
        same = next((one for one in kept if one.end == end), None)
        if same is None:
            kept.append(_Kept(end, from_s, now_s))
        else:
            same.from_s, same.used_s = min(same.from_s, from_s), now_s

    def _over(self, one: _Kept, now_s: float) -> bool:
        return now_s > one.used_s + self.rules.ttl_s

    def _path(self, node: int, upto: int) -> list[tuple[int, int]]:
        """Nodes that the first tokens of a prompt lie in, the last first, and where they end there."""
        if self.tree is None:
            return [(node, upto)] if upto else []
        found = []
        while node >= 0:
            start = int(self.tree.start[node])
            if start < upto:
                found.append((node, upto))
                upto = start
            node = int(self.tree.parent[node])
        return found
