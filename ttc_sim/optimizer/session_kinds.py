"""The search for workloads of sessions without problems: policies are listed, simulated on the same turns, and judged on others.

What a turn costs depends on where the turns before it were sent, so that no sum over requests says what a policy comes to, as it
does for requests that have nothing in common. So candidates are listed with the least that each may cost, which is what it would if
every turn found all that its session had sent before, and simulated from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations, product

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.live_load import few_sizes
from ttc_sim.optimizer.looking import Simulated, key_of
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import SOURCE
from ttc_sim.optimizer.traffic_kinds import KINDS, look_at_live_load, look_at_one_arm
from ttc_sim.policies import PROMPT_TOKENS, PerSource, Policy, Threshold
from ttc_sim.scenario import has_fixed_cost

BY_SESSION = "turns of sessions"
_PARTS = (0.25, 0.5, 0.75, 0.9)  # of the prompt tokens that are sent, below a first edge
_LOOKS = 40  # most candidates that are simulated
_ROUNDS = 2  # of edges between those that did best and their neighbours
_SIZES = 3  # numbers of replicas of each pool, from the fewest that carry what is sent there
_SLACK = 1.1  # what comes in the runs may be that far off what stands for it


def kinds_of(task: PlanningTask) -> Sequence[Callable[[Choosing], None]]:
    """The searches for a workload, from the simplest kind of policy on."""
    if not task.of_sessions:
        return KINDS
    return look_at_one_arm, look_at_sessions, look_at_live_load


def look_at_sessions(choosing: Choosing) -> None:
    """Every kind of candidate, from the one on that may be cheapest, as long as it may be better than the best so far."""
    task, held, looked = choosing.task, choosing.best, dict[str, Simulated]()
    listed = [one for policy in _first_candidates(task) for one in on_sizes(task, policy)]
    for _ in range(1 + _ROUNDS):
        for one in sorted(listed, key=lambda one: one.cost_usd_per_request):
            if len(looked) >= _LOOKS or key_of(one) in looked or _too_dear(choosing, one, held):
                continue
            looked[key_of(one)] = seen = choosing.look(one)
            choosing.say(f"{next(iter(one.notation.values()))}: {figures_in_brief(seen.summary)}")
            if seen.meets_targets and (held is None or choosing.rank(seen) < choosing.rank(held)):
                held = seen
        best = min(looked.values(), key=choosing.rank, default=None)
        if best is None:
            return
        listed = [one for policy in neighbours(task, best, looked.values()) for one in on_sizes(task, policy)]
    choosing.verify_best([*looked.values()], BY_SESSION)


def _too_dear(choosing: Choosing, one: Proposal, held: Simulated | None) -> bool:
    """Whether the least that it may cost is more than may be paid, or than what holds the targets already."""
    most, asked = choosing.targets.cost_usd_per_request, choosing.targets.cut_off_rate
    if asked is not None and 1 - one.accuracy > _SLACK * asked + 1e-9:
        return True
    if most is not None and one.cost_usd_per_request > _SLACK * most:
        return True
    return not choosing.fastest and held is not None and one.cost_usd_per_request >= _SLACK * choosing.value(held)


def _first_candidates(task: PlanningTask) -> Iterator[Policy]:
    for listed in CANDIDATES:
        yield from listed(task)


def by_length(task: PlanningTask) -> Iterator[Policy]:
    """Two arms, by the length of the prompt: as it grows from turn to turn, most sessions switch once."""
    for below, above in pairs_of(task):
        for at in edges_of(task):
            yield Threshold(at=at, below=below, above=above, score=PROMPT_TOKENS)


def pairs_of(task: PlanningTask) -> list[tuple[str, str]]:
    """Two arms that requests may be sent to, in either order."""
    offered = task.expectations.offered[:, 0]
    names = [name for name, here in zip(task.model.arm_names, offered, strict=True) if here]
    return list(permutations(names, 2))


def edges_of(task: PlanningTask) -> list[float]:
    """Lengths of prompts below which about so many parts of all prompt tokens are."""
    length = np.sort(task.population.prompt_tokens)
    upto = np.cumsum(length) / length.sum()
    found = {float(length[min(int(np.searchsorted(upto, part)), len(length) - 1)]) for part in _PARTS}
    return sorted(one for one in found if one > length[0])


def neighbours(task: PlanningTask, best: Simulated, looked: Iterable[Simulated]) -> Iterator[Policy]:
    """Edges halfway between that of the best and the next ones below and above that were tried, on a logarithmic scale."""
    policy = best.proposal.policy.policies[SOURCE]
    if not isinstance(policy, Threshold):
        return
    tried = [one.proposal.policy.policies[SOURCE] for one in looked]
    ends = [float(task.population.prompt_tokens.min()), float(task.population.prompt_tokens.max())]
    edges = sorted({*ends, *(one.at for one in tried if isinstance(one, Threshold) and one.score == policy.score)})
    at = edges.index(policy.at)
    for other in (edges[max(at - 1, 0)], edges[min(at + 1, len(edges) - 1)]):
        middle = float(round((policy.at * other) ** 0.5))
        if middle != policy.at:
            yield Threshold(at=middle, below=policy.below, above=policy.above, score=policy.score)


CANDIDATES: tuple[Callable[[PlanningTask], Iterator[Policy]], ...] = (by_length,)
"""Kinds of candidates. A further one lists policies; what each may cost at least follows from what it chooses (:func:`on_sizes`)."""


def on_sizes(task: PlanningTask, policy: Policy) -> Iterator[Proposal]:
    """A policy on the fewest replicas that carry what it sends to each pool, and a few more; with the least that it may cost."""
    model, expectations, weight = task.model, task.expectations, task.population.weight
    of_all = PerSource({SOURCE: policy})
    arm: I64 = of_all.choose(task.population.as_requests(), model.arm_names)
    rows = np.arange(len(arm))
    load: F64 = expectations.gpu_s[arm, rows] * weight * task.rate_per_s
    at = np.array([one.deployment for one in model.arms])[arm]
    usd, whole = (float(table[arm, rows] @ weight) for table in (expectations.api_cost_usd, expectations.correct))
    names = {model.deployment_names[d]: float(load[at == d].sum()) for d in np.unique(at).tolist()}
    # What follows sessions may come to an arm that it sends no first turn to.
    names |= {
        model.deployment_names[d]: 0.0
        for name in policy.arm_names()
        if model.deployment_names[d := model.arms[model.arm_names.index(name)].deployment] not in names
    }
    fixed = {name: busy for name, busy in names.items() if has_fixed_cost(model.scenario.deployments[name])}
    options = [_sizes(task, name, busy) for name, busy in fixed.items()]
    for counts in product(*options):
        replicas = dict(zip(fixed, counts, strict=True))
        yield Proposal(of_all, replicas, whole, usd + task.pools_usd_per_request(replicas), {})


def _sizes(task: PlanningTask, name: str, load: float) -> list[int]:
    sizes = few_sizes(task, name)
    most = task.model.scenario.search.utilization
    return [size for size in sizes if size * most >= load][:_SIZES] or [sizes[-1]]


__all__ = ["BY_SESSION", "CANDIDATES", "kinds_of", "look_at_sessions"]
