"""Runs of bands that a policy may send to one arm, and what each adds to accuracy, cost, late requests and load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.proposing.proposal import Question
from ttc_sim.policies import PROMPT_TOKENS, Always, Banded, PerSource, Policy


@dataclass(frozen=True)
class Strides:
    """The strides: one binary variable each, as flat arrays.

    Attributes:
        scores: names of the scores to route by.
        source, score, first, last, arm: bands ``first`` up to, not including, ``last`` go to ``arm``.
        correct, cost, timeout: what the stride adds to each sum; late: (limits, strides).
        gpu_s: replica seconds per request of the workload; share: of the requests that it takes.
        edges: per (source, score), the inner edges of the bands.
    """

    scores: tuple[str, ...]
    source: I64
    score: I64
    first: I64
    last: I64
    arm: I64
    correct: F64
    cost: F64
    timeout: F64
    late: F64
    gpu_s: F64
    share: F64
    edges: Mapping[tuple[int, int], F64]


_NO_SCORE = ""
_FINER = 8  # parts of a band that a threshold may stand between, once it is known which


def lay_out_strides(question: Question, scores: Sequence[str]) -> Strides:
    """Every stride over quantile bands of every score, as many bands as the search space says.

    Args:
        scores: names of the scores to route by; without any there is one band, of all problems of a source.
    """
    scores = tuple(scores) or (_NO_SCORE,)
    bands = question.expectations.model.scenario.search.bands
    edges: dict[tuple[int, int], F64] = {}
    parts = []
    for s in range(len(question.expectations.population.sources)):
        of_source = _Source.of(question, s)
        for k, name in enumerate(scores if len(of_source.rows) else ()):
            values = of_source.score(name)
            edges[s, k] = _between(values, name, values, bands)
            nodes = np.arange(len(edges[s, k]) + 2)
            sums = of_source.up_to(values, edges[s, k])
            parts += [_part(s, k, arm, nodes, nodes, sums[:, a]) for a, arm in enumerate(of_source.arms)]
    return _joined(scores, parts, edges)


def strides_around(question: Question, strides: Strides, chosen: I64) -> Strides:
    """The same walks with each threshold anywhere within the bands on its two sides.

    Args:
        chosen: indices of the strides of a walk of each source.
    """
    edges: dict[tuple[int, int], F64] = {}
    parts = []
    for s in np.unique(strides.source[chosen]):
        k, nodes, arms = _walked(strides, chosen, int(s))
        name, coarse = strides.scores[k], strides.edges[int(s), k]
        of_source = _Source.of(question, int(s))
        values = of_source.score(name)
        places: list[F64] = []
        for node in nodes[1:-1]:
            low = coarse[node - 2] if node >= 2 else -np.inf
            high = coarse[node] if node < len(coarse) else np.inf
            near = values[(values >= low) & (values < high)]
            places.append(np.union1d(_between(values, name, near, 2 * _FINER), coarse[node - 1 : node]))
        inner = np.unique(np.concatenate(places)) if places else np.zeros(0)
        edges[int(s), k] = inner
        sums = of_source.up_to(values, inner)
        ends = [np.zeros(1, np.int64), *(np.searchsorted(inner, one) + 1 for one in places), np.array([len(inner) + 1])]
        for arm, first, last in zip(arms, ends, ends[1:], strict=False):
            parts.append(_part(int(s), k, arm, first, last, sums[:, of_source.arms.tolist().index(arm)]))
    return _joined(strides.scores, parts, edges)


@dataclass(frozen=True)
class _Source:
    """The problems of a source that count, the arms that may serve them, and (Q, A, R) what each adds to each sum."""

    question: Question
    rows: I64
    arms: I64
    adds: F64

    @classmethod
    def of(cls, question: Question, s: int) -> _Source:
        expectations, weight = question.expectations, question.weight
        rows = np.flatnonzero((expectations.population.source == s) & (weight > 0))
        arms = np.flatnonzero(expectations.offered[:, s])
        at = np.ix_(arms, rows)
        tables = [expectations.correct, expectations.api_cost_usd, expectations.gpu_s, *question.late]
        each = [np.ones((len(arms), len(rows))), *(table[at] for table in tables)]
        return cls(question, rows, arms, np.array(each) * weight[rows])

    def score(self, name: str) -> F64:
        """(R,) of each problem."""
        if name == _NO_SCORE:
            return np.zeros(len(self.rows))
        return self.question.expectations.population.as_requests().score(name)[self.rows]

    def up_to(self, values: F64, inner: F64) -> F64:
        """(Q, A, bands + 1) sums over the bands before each, and over all."""
        band, count = np.searchsorted(inner, values, side="right"), len(inner) + 1
        flat = self.adds.reshape(-1, len(values))
        totals = np.array([np.bincount(band, weights=row, minlength=count) for row in flat])
        before = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(totals, axis=1)], axis=1)
        return before.reshape(*self.adds.shape[:2], count + 1)


def _between(values: F64, name: str, of: F64, parts: int) -> F64:
    """Thresholds at quantiles of some of the values, rounded as a person reads them: what is evaluated is the rounded one."""
    inner = np.quantile(of, np.linspace(0, 1, parts + 1)[1:-1]) if len(of) else of
    whole = name == PROMPT_TOKENS or name.startswith("tokens")
    inner = np.unique(np.ceil(inner) if whole else np.round(inner, 4))
    kept: F64 = inner[inner > values.min()]
    return kept


def _part(s: int, k: int, arm: int, first: I64, last: I64, sums: F64) -> F64:
    """(5 + Q, strides) those of one arm from any of the first nodes to any later one of the last; ``sums``: (Q, nodes)."""
    a, b = (grid.ravel() for grid in np.meshgrid(first, last, indexing="ij"))
    a, b = a[a < b], b[a < b]
    where = np.stack([np.full(len(a), s), np.full(len(a), k), a, b, np.full(len(a), arm)])
    return np.concatenate([where.astype(np.float64), sums[:, b] - sums[:, a]])


def _joined(scores: tuple[str, ...], parts: list[F64], edges: Mapping[tuple[int, int], F64]) -> Strides:
    flat = np.concatenate(parts, axis=1)
    source, score, first, last, arm = flat[:5].astype(np.int64)
    return Strides(
        scores=scores,
        source=source,
        score=score,
        first=first,
        last=last,
        arm=arm,
        share=flat[5],
        correct=flat[6],
        cost=flat[7],
        timeout=flat[-1],
        late=flat[9:-1],
        gpu_s=flat[8],
        edges=edges,
    )


def _walked(strides: Strides, chosen: I64, source: int) -> tuple[int, list[int], list[int]]:
    """The score that a source is walked under, its nodes from 0 to the last, and the arms between them, neighbours joined."""
    mine = chosen[strides.source[chosen] == source]
    mine = mine[np.argsort(strides.first[mine])]
    nodes, arms = [0], [int(strides.arm[mine[0]])]
    for stride in mine[1:]:
        if strides.arm[stride] != arms[-1]:
            nodes.append(int(strides.first[stride]))
            arms.append(int(strides.arm[stride]))
    return int(strides.score[mine[0]]), [*nodes, int(strides.last[mine[-1]])], arms


def policy_of(strides: Strides, chosen: I64, sources: Sequence[str], arms: Sequence[str]) -> PerSource:
    """The chosen strides as bands, neighbours with the same arm joined.

    Args:
        chosen: indices of the strides; sources, arms: names, in the order that the strides count them.
    """
    policies: dict[str, Policy] = {}
    for s, source in enumerate(sources):
        k, nodes, walked = _walked(strides, chosen, s)
        names = [arms[arm] for arm in walked]
        edges = [float(strides.edges[s, k][node - 1]) for node in nodes[1:-1]]
        policies[source] = Banded(edges=edges, arms=names, score=strides.scores[k]) if edges else Always(names[0])
    return PerSource(policies)
