"""The best banded policy as a mixed-integer program, for accuracy, cost, late requests and GPU load.

For each source of requests and each score to route by, the problems are cut into bands of equal weight. A policy walks
from the lowest band to the highest in a few strides; each stride gives a run of bands to one arm. Accuracy, cost, load and
the share of requests later than a limit are all sums over strides, so the best walk is a shortest-path problem with a few
side constraints: its relaxation is nearly integral, and HiGHS finishes in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from ttc_sim.base.draws import F64, I64
from ttc_sim.policies import DIFFICULTY, Always, Banded, PerSource, Policy
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import GpuPool, Search, Targets
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.workload.population import Population

LATENCY_TARGETS = {"latency_p50_s": 0.50, "latency_p95_s": 0.95, "latency_p99_s": 0.99}


@dataclass(frozen=True)
class Limits:
    """What the program must keep to: the targets, with the margins that simulation has shown to be needed.

    Attributes:
        accuracy: least expected accuracy; ``None`` if not asked for.
        cost_usd_per_request: most expected cost.
        late: per latency target, most requests (share) later than its limit.
        timeout_rate: most requests that run into a timeout.
        utilization: most load of a GPU pool.
    """

    accuracy: float | None = None
    cost_usd_per_request: float | None = None
    late: Mapping[str, float] = field(default_factory=dict)
    timeout_rate: float | None = None
    utilization: float = 0.8


@dataclass(frozen=True)
class Proposal:
    """A policy and what the program expects of it, before any queue.

    Attributes:
        policy: per source.
        replicas: per GPU pool in use.
        accuracy, cost_usd_per_request: expectations.
        excess: per limit that could not be kept, by how much it is missed, relative to the limit; empty if all are kept.
        responses: what the policy expects of each arm, where it needs that.
    """

    policy: PerSource
    replicas: Mapping[str, int]
    accuracy: float
    cost_usd_per_request: float
    excess: Mapping[str, float]
    responses: Mapping[str, Response] | None = None

    def choose(self, population: Population, arms: Sequence[str]) -> I64:
        """Index of the arm of each problem of the population."""
        return self.policy.choose(replace(population, responses=self.responses).as_requests(), arms)


def candidate_scores(expectations: Expectations, search: Search) -> list[str]:
    """Scores worth routing by: those named, else difficulty and the chances of the models on offer."""
    scores = expectations.population.scores
    if search.scores is not None:
        return search.scores
    models = {arm.attempts.name for arm in expectations.model.arms if arm.attempts is not None}
    return [name for name in scores if name == DIFFICULTY or (name.startswith("p:") and name[2:] in models)]


@dataclass(frozen=True)
class Columns:
    """The strides: one binary variable each, as flat arrays.

    Attributes:
        source, score, first, last, arm: bands ``first`` up to, not including, ``last`` go to ``arm``.
        correct, cost, timeout: what the stride adds to each sum; late: (limits, strides).
        gpu_s: replica seconds per request of the workload.
        edges: per (source, score), the inner edges of the bands.
    """

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
    edges: Mapping[tuple[int, int], F64]


def build_columns(expectations: Expectations, late: F64, weight: F64, scores: Sequence[str], bands: int) -> Columns:
    """Lay out every stride.

    Args:
        late: (limits + 1, V, P) chances of being late, timeouts last.
        weight: (P,) weight of each problem; a problem with weight 0 does not count.
        scores: names of the scores to route by.
        bands: bands per source and score.
    """
    population = expectations.population
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
            values = population.scores[name][rows]
            # Four digits are as fine as a person reads, and rounding here keeps the policy exactly what was evaluated.
            inner = np.unique(np.round(np.quantile(values, np.linspace(0, 1, bands + 1)[1:-1]), 4))
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
            for a, arm in enumerate(arms):
                ones = np.ones(len(first))
                sums_of = [stride[q] for q in ("correct", "cost", "gpu_s")] + stride_late
                where = (ones * s, ones * k, first.astype(float), last.astype(float), ones * arm)
                parts.append((*where, *(m[a, last] - m[a, first] for m in sums_of)))
    flat = [np.concatenate([part[q] for part in parts]) for q in range(len(parts[0]))]
    source, score, stride_first, stride_last, stride_arm = (x.astype(np.int64) for x in flat[:5])
    return Columns(
        source,
        score,
        stride_first,
        stride_last,
        stride_arm,
        flat[5],
        flat[6],
        flat[-1],
        np.array(flat[8:-1]),
        flat[7],
        edges,
    )


def solve(
    expectations: Expectations,
    columns: Columns,
    scores: Sequence[str],
    targets: Targets,
    limits: Limits,
    rate_per_s: float,
) -> Proposal:
    """Find the best policy within the limits or, if there is none, the one that misses them by least.

    Args:
        rate_per_s: mean rate of all requests, which turns replica seconds per request into load.

    Returns:
        The proposal; its ``excess`` is empty if all limits are kept.
    """
    proposal = _solve(expectations, columns, scores, targets, limits, rate_per_s, elastic=False)
    if proposal is None:
        proposal = _solve(expectations, columns, scores, targets, limits, rate_per_s, elastic=True)
    if proposal is None:
        raise RuntimeError("the elastic program has a solution by construction, but HiGHS returned none")
    return proposal


def _solve(
    expectations: Expectations,
    columns: Columns,
    scores: Sequence[str],
    targets: Targets,
    limits: Limits,
    rate_per_s: float,
    *,
    elastic: bool,
) -> Proposal | None:
    model, search = expectations.model, expectations.model.scenario.search
    n = len(columns.arm)
    pools = [(d, name) for d, name in enumerate(model.deployment_names) if isinstance(model.deployments[d], GpuPool)]
    sizes = [(d, name, r) for d, name in pools for r in _replica_choices(model.deployments[d], name, search)]
    named = _named_limits(columns, limits)
    slack = len(named) if elastic else 0
    width = n + len(sizes) + slack
    pool_usd = np.array([r * _hourly(model.deployments[d]) / 3600.0 / rate_per_s for d, _, r in sizes])
    cost = np.concatenate([columns.cost, pool_usd])
    rows: list[sparse.csr_array] = []
    lower: list[float] = []
    upper: list[float] = []

    def add(indices: I64, values: F64, low: float, high: float) -> None:
        data = (values, (np.zeros(len(indices), dtype=np.int64), indices))
        rows.append(sparse.csr_array(data, shape=(1, width)))
        lower.append(low)
        upper.append(high)

    _add_walks(columns, search.max_bands, add)
    for position, (name, values, sense, bound) in enumerate(named):
        full = np.concatenate([values, pool_usd]) if name == "cost_usd_per_request" else values
        indices = np.arange(len(full))
        if elastic:  # a unit of slack is a miss by the size of the limit itself
            indices = np.append(indices, n + len(sizes) + position)
            full = np.append(full, sense * max(abs(bound), 1e-9))
        add(indices, full, bound if sense > 0 else -np.inf, np.inf if sense > 0 else bound)
    deployment = np.array([arm.deployment for arm in model.arms])[columns.arm]
    for d, _ in pools:
        here = np.flatnonzero(deployment == d)
        of_pool = np.array([k for k, size in enumerate(sizes) if size[0] == d], dtype=np.int64)
        capacity = limits.utilization * np.array([sizes[k][2] for k in of_pool], dtype=np.float64)
        add(
            np.concatenate([here, n + of_pool]),
            np.concatenate([columns.gpu_s[here] * rate_per_s, -capacity]),
            -np.inf,
            0,
        )
        add(n + of_pool, np.ones(len(of_pool)), 0, 1)
    objective = np.zeros(width)
    if elastic:
        objective[n + len(sizes) :] = 1.0
        objective[: len(cost)] += 1e-6 * cost / max(float(cost.max()), 1e-12)
    elif targets.minimize == "cost":
        objective[: len(cost)] = cost / max(float(np.median(cost[cost > 0])) if (cost > 0).any() else 1.0, 1e-12)
    else:
        objective[:n] = -columns.correct
        objective[: len(cost)] += 1e-4 * cost / max(float(cost.max()), 1e-12)
    integrality = np.concatenate([np.ones(n + len(sizes)), np.zeros(slack)])
    highest = np.concatenate([np.ones(n + len(sizes)), np.full(slack, np.inf)])
    result = milp(
        objective,
        constraints=LinearConstraint(sparse.vstack(rows, format="csr"), np.array(lower), np.array(upper)),
        integrality=integrality,
        bounds=Bounds(np.zeros(width), highest),
        # Presolve probes every stride for seconds and finds nothing: the walk constraints already say it all.
        options={"mip_rel_gap": 1e-3, "node_limit": 20_000, "presolve": False},
    )
    if result.x is None:
        return None
    chosen = np.flatnonzero(result.x[:n] > 0.5)
    replicas = {name: r for k, (_, name, r) in enumerate(sizes) if result.x[n + k] > 0.5}
    excess = {}
    if elastic:
        missed = result.x[n + len(sizes) :]
        excess = {name: float(miss) for (name, *_), miss in zip(named, missed, strict=True) if miss > 1e-6}
    return Proposal(
        policy=_policy(expectations, columns, scores, chosen),
        replicas=replicas,
        accuracy=float(columns.correct[chosen].sum()),
        cost_usd_per_request=float(cost @ (result.x[: len(cost)] > 0.5)),
        excess=excess,
    )


def _named_limits(columns: Columns, limits: Limits) -> list[tuple[str, F64, int, float]]:
    """Name, coefficients, sense (+1 at least, -1 at most) and bound of every limit asked for."""
    named: list[tuple[str, F64, int, float]] = []
    if limits.accuracy is not None:
        named.append(("accuracy", columns.correct, 1, limits.accuracy))
    if limits.cost_usd_per_request is not None:
        named.append(("cost_usd_per_request", columns.cost, -1, limits.cost_usd_per_request))
    for k, (name, most) in enumerate(limits.late.items()):
        named.append((name, columns.late[k], -1, most))
    if limits.timeout_rate is not None:
        named.append(("timeout_rate", columns.timeout, -1, limits.timeout_rate))
    return named


def _add_walks(columns: Columns, max_bands: int, add: object) -> None:
    """Each source is walked once, under one score, in at most ``max_bands`` strides."""
    assert callable(add)
    for s in np.unique(columns.source):
        here = columns.source == s
        start = np.flatnonzero(here & (columns.first == 0))
        add(start, np.ones(len(start)), 1, 1)
        strides = np.flatnonzero(here)
        add(strides, np.ones(len(strides)), 0, max_bands)
        for k in np.unique(columns.score[here]):
            mine = here & (columns.score == k)
            for node in range(1, int(columns.last[mine].max())):
                arriving = np.flatnonzero(mine & (columns.last == node))
                leaving = np.flatnonzero(mine & (columns.first == node))
                signs = np.concatenate([np.ones(len(arriving)), -np.ones(len(leaving))])
                add(np.concatenate([arriving, leaving]), signs, 0, 0)


def _replica_choices(pool: object, name: str, search: Search) -> list[int]:
    assert isinstance(pool, GpuPool)
    return sorted(set(search.replicas.get(name, [pool.replicas])))


def _hourly(pool: object) -> float:
    assert isinstance(pool, GpuPool)
    return pool.hourly_usd


def _policy(expectations: Expectations, columns: Columns, scores: Sequence[str], chosen: I64) -> PerSource:
    """The strides as bands, neighbours with the same arm joined."""
    names = expectations.model.arm_names
    policies: dict[str, Policy] = {}
    for s, source in enumerate(expectations.population.sources):
        mine = chosen[columns.source[chosen] == s]
        mine = mine[np.argsort(columns.first[mine])]
        arms = [names[columns.arm[mine[0]]]]
        edges: list[float] = []
        k = int(columns.score[mine[0]])
        for stride in mine[1:]:
            name = names[columns.arm[stride]]
            if name != arms[-1]:
                edges.append(float(columns.edges[s, k][columns.first[stride] - 1]))
                arms.append(name)
        policies[source] = Banded(edges=edges, arms=arms, score=scores[k]) if edges else Always(arms[0])
    return PerSource(policies)
