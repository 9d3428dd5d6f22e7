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


def lay_out_strides(question: Question, scores: Sequence[str]) -> Strides:
    """Every stride over quantile bands of every score, as many bands as the search space says.

    Args:
        scores: names of the scores to route by; without any there is one band, of all problems of a source.
    """
    scores = tuple(scores) or (_NO_SCORE,)
    expectations, weight, late = question.expectations, question.weight, question.late
    population, bands = expectations.population, expectations.model.scenario.search.bands
    parts: list[tuple[F64, ...]] = []
    edges: dict[tuple[int, int], F64] = {}
    for s in range(len(population.sources)):
        rows = np.flatnonzero((population.source == s) & (weight > 0))
        arms = np.flatnonzero(expectations.offered[:, s])
        w = weight[rows]
        sums = {
            "correct": expectations.correct[np.ix_(arms, rows)] * w,
            "cost": expectations.api_cost_usd[np.ix_(arms, rows)] * w,
            "gpu_s": expectations.gpu_s[np.ix_(arms, rows)] * w,
        }
        lates = [late[k][np.ix_(arms, rows)] * w for k in range(len(late))]
        for k, name in enumerate(scores if len(rows) else ()):
            values = np.zeros(len(rows)) if name == _NO_SCORE else population.scores[name][rows]
            # Four digits are as fine as a person reads, and rounding here keeps the policy exactly what was evaluated.
            inner = np.quantile(values, np.linspace(0, 1, bands + 1)[1:-1])
            inner = np.unique(np.ceil(inner) if name == PROMPT_TOKENS else np.round(inner, 4))
            inner = inner[inner > values.min()]
            edges[s, k] = inner
            band = np.searchsorted(inner, values, side="right")
            count = len(inner) + 1

            def prefix(matrix: F64, band: I64 = band, count: int = count) -> F64:
                total = np.stack([np.bincount(band, weights=row, minlength=count) for row in matrix])
                return np.concatenate([np.zeros((len(matrix), 1)), np.cumsum(total, axis=1)], axis=1)

            first, last = np.triu_indices(count + 1, 1)
            stride = {name: prefix(m) for name, m in sums.items()}
            stride_late = [prefix(m) for m in lates]
            of_all = prefix(w[None])[0]
            for a, arm in enumerate(arms):
                ones = np.ones(len(first))
                sums_of = [stride[q] for q in ("correct", "cost", "gpu_s")] + stride_late
                where = (ones * s, ones * k, first.astype(float), last.astype(float), ones * arm)
                parts.append((*where, of_all[last] - of_all[first], *(m[a, last] - m[a, first] for m in sums_of)))
    flat = [np.concatenate([part[q] for part in parts]) for q in range(len(parts[0]))]
    source, score, stride_first, stride_last, stride_arm = (x.astype(np.int64) for x in flat[:5])
    return Strides(
        scores=tuple(scores),
        source=source,
        score=score,
        first=stride_first,
        last=stride_last,
        arm=stride_arm,
        share=flat[5],
        correct=flat[6],
        cost=flat[7],
        timeout=flat[-1],
        late=np.array(flat[9:-1]),
        gpu_s=flat[8],
        edges=edges,
    )


def policy_of(strides: Strides, chosen: I64, sources: Sequence[str], arms: Sequence[str]) -> PerSource:
    """The chosen strides as bands, neighbours with the same arm joined.

    Args:
        chosen: indices of the strides; sources, arms: names, in the order that the strides count them.
    """
    policies: dict[str, Policy] = {}
    for s, source in enumerate(sources):
        mine = chosen[strides.source[chosen] == s]
        mine = mine[np.argsort(strides.first[mine])]
        walked = [arms[strides.arm[mine[0]]]]
        edges: list[float] = []
        k = int(strides.score[mine[0]])
        for stride in mine[1:]:
            name = arms[strides.arm[stride]]
            if name != walked[-1]:
                edges.append(float(strides.edges[s, k][strides.first[stride] - 1]))
                walked.append(name)
        policies[source] = Banded(edges=edges, arms=walked, score=strides.scores[k]) if edges else Always(walked[0])
    return PerSource(policies)
