"""The best banded policy as a mixed-integer program, for accuracy, cost, late requests and GPU load.

For each source of requests and each score to route by, the problems are cut into bands of equal weight. A policy walks
from the lowest band to the highest in a few strides; each stride gives a run of bands to one arm. Accuracy, cost, load and
the share of requests later than a limit are all sums over strides, so the best walk is a shortest-path problem with a few
side constraints: its relaxation is nearly integral, and HiGHS finishes in a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Question
from ttc_sim.optimizer.proposing.strides import Strides, lay_out_strides, policy_of
from ttc_sim.policies import DIFFICULTY, PROMPT_TOKENS
from ttc_sim.scenario import Api, Search, has_fixed_cost
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting

_SMALL, _NEXT_TO_NOTHING = 1e-4, 1e-6


@dataclass(frozen=True)
class BandsProposer:
    """Proposes bands of one predicted score for each source, which a person can read.

    Attributes:
        scores: names of the scores to route by, each tried.
    """

    scores: tuple[str, ...]

    @classmethod
    def starting(cls, expectations: Expectations, waiting: Mapping[str, Waiting]) -> BandsProposer:
        """Over the scores that the search space names, whatever the pools' times.

        Raises:
            InputError: a score that the problems do not have.
        """
        return cls(tuple(candidate_scores(expectations, expectations.model.scenario.search)))

    def propose(self, question: Question) -> Proposal:
        """The best bands within the limits or, if there are none, those that miss them by least."""
        return solve(question, lay_out_strides(question, self.scores))


def candidate_scores(expectations: Expectations, search: Search) -> list[str]:
    """Scores worth routing by: those named, else difficulty and the chances of the models on offer; of traffic without problems the
    length of prompts.

    Raises:
        InputError: a score is named that the problems do not have.
    """
    scores = expectations.population.scores
    if search.scores is not None:
        for name in search.scores:
            if name not in scores:
                raise InputError(expectations.model.scenario.path, "search.scores", name, nearest(name, scores))
        return search.scores
    models = {arm.attempts.name for arm in expectations.model.arms if arm.attempts is not None}
    return [
        name for name in scores if name in (DIFFICULTY, PROMPT_TOKENS) or (name.startswith("p:") and name[2:] in models)
    ]


def solve(question: Question, strides: Strides) -> Proposal:
    """The best walk within the limits or, if there is none, the one that misses them by least.

    Returns:
        The proposal; its ``excess`` is empty if all limits are kept.
    """
    proposal = _solve(question, strides, elastic=False)
    if proposal is None:
        proposal = _solve(question, strides, elastic=True)
    if proposal is None:
        where = question.expectations.model.scenario.path
        expected = "a smaller search space: nothing was found within 20,000 nodes of the integer program"
        raise InputError(where, "search", f"{len(strides.arm):,} strides", expected)
    return proposal


@dataclass(frozen=True)
class _Size:
    """One number of replicas that a pool may have, or an endpoint with a fee in use: a binary variable."""

    deployment: int
    pool: str
    replicas: int
    usd_per_request: float


@dataclass(frozen=True)
class _Rows:
    """Linear constraints on ``width`` variables, a row each, as they are added."""

    width: int
    rows: list[sparse.csr_array] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)

    def add(self, indices: I64, values: F64, low: float, high: float) -> None:
        """The sum of these variables, each times its value, lies from ``low`` to ``high``."""
        data = (values, (np.zeros(len(indices), dtype=np.int64), indices))
        self.rows.append(sparse.csr_array(data, shape=(1, self.width)))
        self.lower.append(low)
        self.upper.append(high)

    def constraint(self) -> LinearConstraint:
        """All of them."""
        return LinearConstraint(sparse.vstack(self.rows, format="csr"), np.array(self.lower), np.array(self.upper))


def _solve(question: Question, strides: Strides, *, elastic: bool) -> Proposal | None:
    """The program's solution, ``None`` if it has none; elastic, limits may be missed, and the misses are made least.

    Variables: strides first, then the pools' sizes and, elastic, a miss of each limit and one of each pool's capacity.
    """
    targets, model = question.targets, question.expectations.model
    n = len(strides.arm)
    sizes = _sizes(question)
    limits = _named_limits(strides, question.limits)
    pools = len({size.deployment for size in sizes})
    misses = len(limits) + pools if elastic else 0
    pool_usd = np.array([size.usd_per_request for size in sizes])
    cost = np.concatenate([strides.cost, pool_usd])
    rows = _Rows(n + len(sizes) + misses)
    _add_walks(strides, model.scenario.search.max_bands, rows)
    for position, (name, values, sense, bound) in enumerate(limits):
        full = np.concatenate([values, pool_usd]) if name == "cost_usd_per_request" else values
        indices = np.arange(len(full))
        # A unit of slack is a miss by the size of the limit itself, or of what is next to nothing beside the figures it limits.
        size = float(np.abs(full).max(initial=0.0)) or 1.0
        unit = max(abs(bound), _NEXT_TO_NOTHING * size)
        if elastic:
            indices = np.append(indices, n + len(sizes) + position)
            full = np.append(full, sense * unit)
        if unit < _SMALL:  # HiGHS takes 1e-9 for nothing, and a miss by 1e-6 for none
            full, bound = full / size, bound / size
        rows.add(indices, full, bound if sense > 0 else -np.inf, np.inf if sense > 0 else bound)
    _add_capacity(question, strides, sizes, rows, slack=n + len(sizes) + len(limits) if elastic else None)
    objective = np.zeros(rows.width)
    if elastic:
        objective[n + len(sizes) :] = 1.0
        objective[: len(cost)] += 1e-6 * cost / max(float(cost.max()), 1e-12)
    elif targets.cheapest:
        objective[: len(cost)] = cost / max(float(np.median(cost[cost > 0])) if (cost > 0).any() else 1.0, 1e-12)
    else:
        objective[:n] = -strides.correct
        objective[: len(cost)] += 1e-4 * cost / max(float(cost.max()), 1e-12)
    result = milp(
        objective,
        constraints=rows.constraint(),
        integrality=np.concatenate([np.ones(n + len(sizes)), np.zeros(misses)]),
        bounds=Bounds(np.zeros(rows.width), np.concatenate([np.ones(n + len(sizes)), np.full(misses, np.inf)])),
        # Presolve probes every stride for seconds and finds nothing: the walk constraints already say it all.
        options={"mip_rel_gap": 1e-3, "node_limit": 20_000, "presolve": False},
    )
    if result.x is None:
        return None
    chosen = np.flatnonzero(result.x[:n] > 0.5)
    excess = {}
    if elastic:
        missed = result.x[n + len(sizes) :]
        excess = {name: float(miss) for (name, *_), miss in zip(limits, missed, strict=False) if miss > 1e-6}
        overload = float(missed[len(limits) :].max(initial=0.0))
        if overload > 1e-6:
            excess["utilization"] = overload
    return Proposal(
        policy=policy_of(strides, chosen, question.expectations.population.sources, model.arm_names),
        replicas={size.pool: size.replicas for k, size in enumerate(sizes) if result.x[n + k] > 0.5},
        accuracy=float(strides.correct[chosen].sum()),
        cost_usd_per_request=float(cost @ (result.x[: len(cost)] > 0.5)),
        excess=excess,
    )


def _sizes(question: Question) -> list[_Size]:
    """Every number of replicas that may be chosen of every pool, smallest first."""
    model = question.expectations.model
    return [
        _Size(d, name, count, count * pool.hourly_usd / 3600.0 / question.rate_per_s)
        for d, (name, pool) in enumerate(zip(model.deployment_names, model.deployments, strict=True))
        if has_fixed_cost(pool)
        for count in question.sizes(name)
    ]


def _named_limits(strides: Strides, limits: Limits) -> list[tuple[str, F64, int, float]]:
    """Name, coefficients, sense (+1 at least, -1 at most) and bound of every limit asked for."""
    named: list[tuple[str, F64, int, float]] = []
    if limits.accuracy is not None:
        named.append(("accuracy", strides.correct, 1, limits.accuracy))
    if limits.cost_usd_per_request is not None:
        named.append(("cost_usd_per_request", strides.cost, -1, limits.cost_usd_per_request))
    for k, (name, most) in enumerate(limits.late.items()):
        named.append((name, strides.late[k], -1, most))
    if limits.timeout_rate is not None:
        named.append(("timeout_rate", strides.timeout, -1, limits.timeout_rate))
    return named


def _add_walks(strides: Strides, max_bands: int, rows: _Rows) -> None:
    """Each source is walked once, under one score, in at most ``max_bands`` strides."""
    for s in np.unique(strides.source):
        here = strides.source == s
        start = np.flatnonzero(here & (strides.first == 0))
        rows.add(start, np.ones(len(start)), 1, 1)
        walked = np.flatnonzero(here)
        rows.add(walked, np.ones(len(walked)), 0, max_bands)
        for k in np.unique(strides.score[here]):
            mine = here & (strides.score == k)
            for node in range(1, int(strides.last[mine].max())):
                arriving = np.flatnonzero(mine & (strides.last == node))
                leaving = np.flatnonzero(mine & (strides.first == node))
                signs = np.concatenate([np.ones(len(arriving)), -np.ones(len(leaving))])
                rows.add(np.concatenate([arriving, leaving]), signs, 0, 0)


def _add_capacity(question: Question, strides: Strides, sizes: list[_Size], rows: _Rows, *, slack: int | None) -> None:
    """Each pool has at most one size, and carries what is sent to it; an endpoint with a fee carries all, once that is paid.

    Args:
        slack: where the variables start by which pools are overloaded, in terms of their largest size; ``None`` if none may be.
    """
    n = len(strides.arm)
    deployment = np.array([arm.deployment for arm in question.expectations.model.arms])[strides.arm]
    for position, d in enumerate(dict.fromkeys(size.deployment for size in sizes)):
        here = np.flatnonzero(deployment == d)
        of_pool = np.array([k for k, size in enumerate(sizes) if size.deployment == d], dtype=np.int64)
        capacity = question.limits.utilization * np.array([sizes[k].replicas for k in of_pool], dtype=np.float64)
        endpoint = isinstance(question.expectations.model.deployments[d], Api)
        load = (
            question.limits.utilization * strides.share[here] if endpoint else strides.gpu_s[here] * question.rate_per_s
        )
        indices, values = np.concatenate([here, n + of_pool]), np.concatenate([load, -capacity])
        if slack is not None:
            # What is overloaded is bought all the same.
            bought = np.concatenate([load, np.full(len(of_pool), -max(float(load.sum()), 1e-9))])
            rows.add(indices, bought, -np.inf, 0)
            indices, values = np.append(indices, slack + position), np.append(values, -capacity.max())
        rows.add(indices, values, -np.inf, 0)
        rows.add(n + of_pool, np.ones(len(of_pool)), 0, 1)
