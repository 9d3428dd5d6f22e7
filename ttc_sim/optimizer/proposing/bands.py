"""The best banded policy, for accuracy, cost, late requests and GPU load.

For each source of requests and each score to route by, the problems are cut into bands of equal weight. A policy walks
from the lowest band to the highest in a few strides; each stride gives a run of bands to one arm. Accuracy, cost, load and
the share of requests later than a limit are all sums over strides, so the best walk is a shortest-path problem with a few
side constraints. Of one source every walk is looked at; of several it is a mixed-integer program. Then each threshold may stand
anywhere within the bands on its two sides, which is the same problem once more, over few strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.proposing.dominated import without_dominated
from ttc_sim.optimizer.proposing.goals import best_of
from ttc_sim.optimizer.proposing.objectives import Goal
from ttc_sim.optimizer.proposing.programs import Program
from ttc_sim.optimizer.proposing.proposal import Limits, Proposal, Question
from ttc_sim.optimizer.proposing.strides import Strides, lay_out_strides, policy_of, strides_around
from ttc_sim.optimizer.proposing.walks import best_walk, every_walk
from ttc_sim.policies import DIFFICULTY, PROMPT_TOKENS
from ttc_sim.scenario import Api, Search, has_fixed_cost
from ttc_sim.simulation.expectations import Expectations
from ttc_sim.simulation.expected_times import Waiting

_SMALL, _NEXT_TO_NOTHING = 1e-4, 1e-6
_OF_TIES = 0.01  # of what a typical stride costs, for an accuracy of 1: of plans that cost the same the more accurate is proposed


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

        def laid_out(one: Question) -> Strides:
            return without_dominated(lay_out_strides(one, self.scores), one)

        return best_of(question, lambda one: solve(one, laid_out(one)), lambda one: relaxed(one, laid_out(one)))


def candidate_scores(expectations: Expectations, search: Search) -> list[str]:
    """Scores worth routing by: those named, else the length of prompts, difficulty, and the models' chances and tokens, of those on
    offer.

    Raises:
        InputError: a score is named that the problems do not have.
    """
    scores = list(dict.fromkeys([*expectations.population.scores, PROMPT_TOKENS]))
    if search.scores is not None:
        for name in search.scores:
            if name not in scores:
                raise InputError(expectations.model.scenario.path, "search.scores", name, nearest(name, scores))
        return search.scores
    models = {arm.attempts.name for arm in expectations.model.arms if arm.attempts is not None}
    worth = {DIFFICULTY, PROMPT_TOKENS, *(f"{kind}:{model}" for kind in ("p", "tokens") for model in models)}
    return [name for name in scores if name in worth]


def solve(question: Question, strides: Strides, *, finer: bool = True) -> Proposal:
    """The best walk within the limits or, if there is none, the one that misses them by least.

    Args:
        finer: whether thresholds may then stand within the bands on their two sides, arms and score as they were found.

    Returns:
        The proposal; its ``excess`` is empty if all limits are kept.
    """
    found = _solve(question, strides, elastic=False)
    if found is not None:
        near = _solve(question, strides_around(question, strides, found[1]), elastic=False) if finer else None
        return (near or found)[0]
    found = _solve(question, strides, elastic=True)
    if found is None:
        where = question.expectations.model.scenario.path
        expected = "a smaller search space: nothing was found within 20,000 nodes of the integer program"
        raise InputError(where, "search", f"{len(strides.arm):,} strides", expected)
    return found[0]


def relaxed(question: Question, strides: Strides) -> tuple[float, float, float] | None:
    """Accuracy, US dollars and what is broken of the goal, of the best mixture of walks; ``None`` if none keeps the limits."""
    asked = _Asked.of(question, strides, elastic=False)
    found = asked.program.mixture()
    if found is None:
        return None
    x, replicas = found
    broken = float(strides.late[-1] @ x) if question.aim.broken else 0.0
    return float(strides.correct @ x), float(strides.cost @ x + asked.usd @ replicas), broken


def _solve(question: Question, strides: Strides, *, elastic: bool) -> tuple[Proposal, I64] | None:
    """The program's solution, and the strides that it takes; ``None`` if it has none.

    Elastic, limits may be missed, and the misses are made least.
    """
    model, n = question.expectations.model, len(strides.arm)
    asked = _Asked.of(question, strides, elastic=elastic)
    walks = every_walk(strides, model.scenario.search.max_bands, asked.program.combinations)
    found = asked.program.best() if walks is None else best_walk(asked.program, walks)
    if found is None:
        return None
    x, replicas = found
    chosen = np.flatnonzero(x[:n] > 0.5)
    excess = {}
    if elastic:
        missed = x[n:]
        excess = {name: float(miss) for name, miss in zip(asked.limits, missed, strict=False) if miss > 1e-6}
        overload = float(missed[len(asked.limits) :].max(initial=0.0))
        if overload > 1e-6:
            excess["utilization"] = overload
    proposal = Proposal(
        policy=policy_of(strides, chosen, question.expectations.population.sources, model.arm_names),
        replicas={pool.name: int(count) for pool, count in zip(asked.pools, replicas, strict=True) if count},
        accuracy=float(strides.correct[chosen].sum()),
        cost_usd_per_request=float(strides.cost[chosen].sum() + asked.usd @ replicas),
        excess=excess,
    )
    return proposal, chosen


@dataclass(frozen=True)
class _Asked:
    """A question as a program: its variables are strides first, then, elastic, a miss of each limit and of each pool's capacity.

    Attributes:
        limits: names of those that are asked for; usd: (pools,) what a replica costs a request.
    """

    program: Program
    limits: list[str]
    pools: list[_Pool]
    usd: F64

    @classmethod
    def of(cls, question: Question, strides: Strides, *, elastic: bool) -> _Asked:
        """Elastic, limits may be missed."""
        n = len(strides.arm)
        pools = _pools(question)
        limits = _named_limits(strides, question.limits)
        misses = len(limits) + len(pools) if elastic else 0
        usd = np.array([pool.usd_per_request for pool in pools])
        same, most = _Rows(n + misses, len(pools)), _Rows(n + misses, len(pools))
        _add_walks(strides, question.expectations.model.scenario.search.max_bands, same, most)
        for position, (name, values, sense, bound) in enumerate(limits):
            room = usd if name == "cost_usd_per_request" else np.zeros(len(pools))
            indices, full = np.arange(n), -sense * values
            # A unit of slack is a miss by the size of the limit itself, or of what is next to nothing beside the figures it limits.
            size = float(np.abs(full).max(initial=float(room.max(initial=0.0)))) or 1.0
            unit = max(abs(bound), _NEXT_TO_NOTHING * size)
            if elastic:
                indices, full = np.append(indices, n + position), np.append(full, -unit)
            scale = size if unit < _SMALL else 1.0  # HiGHS takes 1e-9 for nothing, and a miss by 1e-6 for none
            most.add(indices, full / scale, -sense * bound / scale, -room / scale)
        _add_capacity(question, strides, pools, most, slack=n + len(limits) if elastic else None)
        of_stride, usd_unit = _objective(question.aim, strides, usd * [max(pool.sizes) for pool in pools], elastic)
        program = Program(
            cost=np.concatenate([of_stride, np.ones(misses)]),
            choices=n,
            same=same.matrix(),
            value=np.array(same.bounds),
            most=most.matrix(),
            limit=np.array(most.bounds),
            room=np.array(most.room).reshape(len(most.room), len(pools)),
            usd=usd * usd_unit,
            sizes=tuple((0, *pool.sizes) for pool in pools),
            gap=1e-6 if elastic else 1e-4,  # misses come before all else, and there what they cost
        )
        return cls(program, [name for name, *_ in limits], pools, usd)


def _objective(goal: Goal, strides: Strides, pool_usd: F64, elastic: bool) -> tuple[F64, float]:
    """What each stride, and each US dollar of pools, adds to what is made least; of two that are alike the cheaper is better.

    Args:
        pool_usd: US dollars a request of the most replicas of each pool.
    """
    cost = strides.cost
    some = np.concatenate([cost, pool_usd])
    a_little = 1 / max(float(some.max(initial=0.0)), 1e-12)
    if elastic:
        return 1e-6 * a_little * cost, 1e-6 * a_little
    usd = max(float(np.median(some[some > 0])) if (some > 0).any() else 1.0, 1e-12)
    if goal == Goal(usd=1.0):
        return cost / usd - _OF_TIES * strides.correct, 1 / usd
    if goal.usd:
        return (goal.usd * cost - goal.right * strides.correct) / usd, goal.usd / usd
    value = 1e-4 * a_little * cost - goal.right * strides.correct
    return value + goal.broken * strides.late[-1] if goal.broken else value, 1e-4 * a_little


@dataclass(frozen=True)
class _Pool:
    """A GPU pool, the numbers of replicas that it may have, and what one costs a request; or an endpoint with a fee."""

    deployment: int
    name: str
    sizes: tuple[int, ...]
    usd_per_request: float


def _pools(question: Question) -> list[_Pool]:
    """Every pool that may have a replica."""
    model = question.expectations.model
    return [
        _Pool(d, name, sizes, pool.hourly_usd / 3600.0 / question.rate_per_s)
        for d, (name, pool) in enumerate(zip(model.deployment_names, model.deployments, strict=True))
        if has_fixed_cost(pool) and (sizes := tuple(question.sizes(name)))
    ]


@dataclass(frozen=True)
class _Rows:
    """Linear limits on ``width`` variables, a row each, as they are added, and by how much a replica of each pool raises them."""

    width: int
    pools: int
    rows: list[sparse.csr_array] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    room: list[F64] = field(default_factory=list)

    def add(self, indices: I64, values: F64, bound: float, room: F64 | None = None) -> None:
        """The sum of these variables, each times its value, is limited by ``bound`` and the room that replicas make."""
        data = (values, (np.zeros(len(indices), dtype=np.int64), indices))
        self.rows.append(sparse.csr_array(data, shape=(1, self.width)))
        self.bounds.append(bound)
        self.room.append(np.zeros(self.pools) if room is None else room)

    def matrix(self) -> sparse.csr_array:
        """All of them."""
        return sparse.vstack(self.rows, format="csr") if self.rows else sparse.csr_array((0, self.width))


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


def _add_walks(strides: Strides, max_bands: int, same: _Rows, most: _Rows) -> None:
    """Each source is walked once, under one score, in at most ``max_bands`` strides."""
    for s in np.unique(strides.source):
        here = strides.source == s
        start = np.flatnonzero(here & (strides.first == 0))
        same.add(start, np.ones(len(start)), 1)
        walked = np.flatnonzero(here)
        most.add(walked, np.ones(len(walked)), max_bands)
        for k in np.unique(strides.score[here]):
            mine = here & (strides.score == k)
            for node in range(1, int(strides.last[mine].max())):
                arriving = np.flatnonzero(mine & (strides.last == node))
                leaving = np.flatnonzero(mine & (strides.first == node))
                signs = np.concatenate([np.ones(len(arriving)), -np.ones(len(leaving))])
                same.add(np.concatenate([arriving, leaving]), signs, 0)


def _add_capacity(question: Question, strides: Strides, pools: list[_Pool], most: _Rows, *, slack: int | None) -> None:
    """Each pool carries what is sent to it; an endpoint with a fee carries all, once that is paid.

    Args:
        slack: where the variables start by which pools are overloaded, in terms of their largest size; ``None`` if none may be.
    """
    deployment = np.array([arm.deployment for arm in question.expectations.model.arms])[strides.arm]
    for position, pool in enumerate(pools):
        here = np.flatnonzero(deployment == pool.deployment)
        endpoint = isinstance(question.expectations.model.deployments[pool.deployment], Api)
        load = (
            question.limits.utilization * strides.share[here] if endpoint else strides.gpu_s[here] * question.rate_per_s
        )
        room = question.limits.utilization * np.eye(len(pools))[position]
        indices, values = here, load
        if slack is not None:
            # What is overloaded is bought all the same.
            bought = max(float(load.sum()), 1e-9) * np.eye(len(pools))[position]
            most.add(here, load, 0.0, bought)
            largest = question.limits.utilization * max(pool.sizes)
            indices, values = np.append(here, slack + position), np.append(load, -largest)
        most.add(indices, values, 0.0, room)
