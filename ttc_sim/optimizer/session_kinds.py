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
from ttc_sim.base.progress import Step
from ttc_sim.optimizer.choosing import Choosing
from ttc_sim.optimizer.live_load import few_sizes
from ttc_sim.optimizer.looking import Simulated, key_of
from ttc_sim.optimizer.promises import figures_in_brief
from ttc_sim.optimizer.proposing.proposal import Proposal
from ttc_sim.optimizer.session_budgets import budgets_between, by_budget, by_compacting, made_shorter, offered_to_all
from ttc_sim.optimizer.simpler import simplicity_of
from ttc_sim.optimizer.task import PlanningTask
from ttc_sim.optimizer.traffic_alone import SOURCE
from ttc_sim.optimizer.traffic_kinds import KINDS, look_at_live_load, look_at_one_arm
from ttc_sim.policies import (
    PROMPT_TOKENS,
    TURN,
    Always,
    Banded,
    Escalate,
    PerSource,
    Policy,
    SessionBudget,
    Sticky,
    follows_sessions,
)
from ttc_sim.scenario import has_fixed_cost
from ttc_sim.simulation.turn_lengths import may_be_live

BY_SESSION = "turns of sessions"
_PARTS = (0.25, 0.5, 0.75, 0.9)  # of the prompt tokens that are sent, on turns before a first edge
_WORTH = (0.01, 0.1)  # US dollars a turn that it may be worth to be where a policy asks
_TURNS = 10  # over which a move is weighed
_LOOKS = 60  # most candidates that are simulated
_ROUNDS = 2  # of what lies between those that did best and their neighbours
_SIZES = 3  # numbers of replicas of each pool, from the fewest that carry what is sent there
_SLACK = 1.1  # what comes in the runs may be that far off what stands for it


def kinds_of(task: PlanningTask) -> Sequence[Callable[[Choosing], None]]:
    """The searches for a workload, from the simplest kind of policy on."""
    if not task.of_sessions:
        return KINDS
    # By live load several arms answer a session, and later prompts cannot be as long as those have made them.
    if wants_accuracy(task) or not may_be_live(task.model):
        return look_at_one_arm, look_at_sessions
    return look_at_one_arm, look_at_sessions, look_at_live_load


NOT_BY_LOAD = (
    "policies by live load were not searched: arms differ in turn_tokens, and how long later prompts are is fixed "
    "before a run"
)


def wants_accuracy(task: PlanningTask) -> bool:
    """Whether the accuracy of sessions counts. It was measured of sessions that one agent answered from the first turn to the last:
    what is made of one that several arms answer nobody has measured, so that no plan may rest on it."""
    asked = task.targets.accuracy is not None or any(name.startswith("accuracy") for name in task.targets.made_best)
    return asked and task.model.instances is not None


NOT_SEARCHED = (
    "policies under which several arms answer one session were not searched: how right such sessions would be was not measured, as "
    "each measured run is one agent's from its first turn to its last"
)


def look_at_sessions(choosing: Choosing) -> None:
    """Every kind of candidate, from the one on that may be cheapest, as long as it may be better than the best so far."""
    task, held, looked = choosing.task, choosing.best, list[Simulated]()
    alone, tried = wants_accuracy(task), set[str]()
    policies = [policy for listed in ((by_first,) if alone else CANDIDATES) for policy in listed(task)]
    for _ in range(1 + _ROUNDS):
        listed = [one for policy in policies for one in on_sizes(task, policy)]
        for one in sorted(listed, key=lambda one: one.cost_usd_per_request):
            if len(tried) >= _LOOKS or key_of(one) in tried or _too_dear(choosing, one, held):
                continue
            tried.add(key_of(one))
            seen = choosing.look(one)
            told = f"{next(iter(one.notation.values()))}: {figures_in_brief(seen.summary)}"
            choosing.say(Step("looking at policies of sessions", detail=told))
            if alone and _by_several_arms(seen):
                continue
            looked.append(seen)
            if seen.meets_targets and (held is None or choosing.rank(seen) < choosing.rank(held)):
                held = seen
        best: dict[object, Simulated] = {}
        for seen in sorted(looked, key=choosing.rank):
            best.setdefault(_alike(policy_of(seen)), seen)
        known = [policy_of(seen) for seen in looked]
        policies = [other for one in map(policy_of, best.values()) for other in between(task, one, known)]
        policies += [other for one in map(policy_of, best.values()) for other in ([] if alone else around(one))]
    if looked:  # of those that come to the same, the simplest first
        choosing.verify_best(sorted(looked, key=simplicity_of), BY_SESSION)


def _by_several_arms(seen: Simulated) -> bool:
    """Whether more than one arm answered any session."""
    of = seen.summary.session_accuracy
    return of is not None and of.several_arms_share > 0


def policy_of(seen: Simulated) -> Policy:
    """The one for all."""
    return seen.proposal.policy.policies[SOURCE]


def _too_dear(choosing: Choosing, one: Proposal, held: Simulated | None) -> bool:
    """Whether it cuts off too much, or the least that it may cost is too much, or more than what holds the targets already."""
    most, asked = choosing.targets.cost_usd_per_request, choosing.targets.cut_off_rate
    if asked is not None and 1 - one.accuracy > _SLACK * asked + 1e-9:
        return True
    if most is not None and one.cost_usd_per_request > _SLACK * most:
        return True
    if held is None or not choosing.targets.cheapest:
        return False
    return one.cost_usd_per_request >= _SLACK * held.summary.cost_usd_per_request.value


def _alike(policy: Policy) -> object:
    """What policies have in common that differ by numbers alone."""
    names = getattr(policy, "score", None), getattr(policy, "at_end", None), *policy.arm_names()
    return type(policy), names


# ----------------------------------------------------------------------------------------------------------- candidates


def by_length(task: PlanningTask) -> Iterator[Policy]:
    """Two arms, by the length of the prompt: as it grows from turn to turn, most sessions switch once."""
    yield from _by_score(task, PROMPT_TOKENS, task.population.prompt_tokens)


def by_turn(task: PlanningTask) -> Iterator[Policy]:
    """Two arms, by which turn of its session it is."""
    assert task.population.turns is not None
    yield from _by_score(task, TURN, task.population.turns.turn)


def by_first(task: PlanningTask) -> Iterator[Policy]:
    """Two arms, by the length of a session's first prompt: each stays on its own to its end."""
    turns, prompt = task.population.turns, task.population.prompt_tokens
    assert turns is not None
    begins = prompt[turns.turn == 0]
    for below, above in pairs_of(task):
        for at in sorted({float(np.quantile(begins, part, method="lower")) for part in _PARTS}):
            if at > begins.min():
                yield Sticky(Banded(edges=[at], arms=[below, above], score=PROMPT_TOKENS), moves=0)


CANDIDATES: tuple[Callable[[PlanningTask], Iterator[Policy]], ...] = (by_length, by_turn, by_budget, by_compacting)
"""Kinds of candidates. A further one lists policies; what each may cost at least follows from what it chooses."""


def around(policy: Policy) -> Iterator[Policy]:
    """The same, with sessions that stay where they are unless a move pays, or for good."""
    if follows_sessions(policy) or isinstance(policy, Always):
        return
    yield Sticky(policy)
    yield from (Sticky(policy, worth_usd=usd, turns=_TURNS) for usd in _WORTH)
    yield Sticky(policy, moves=0)
    yield Escalate(policy)


def between(task: PlanningTask, best: Policy, tried: Iterable[Policy]) -> Iterator[Policy]:
    """Edges, or budgets, halfway between that of the best and the next below and above that were tried, on a logarithmic scale."""
    if isinstance(best, Banded):
        score = task.population.as_requests().score(best.score)
        ends = {max(float(score.min()), 1.0), float(score.max())}
        known = {one.edges[0] for one in tried if isinstance(one, Banded) and one.score == best.score}
        for edge in _halfway(best.edges[0], known | ends):
            yield Banded(edges=[edge], arms=best.arms, score=best.score)
    elif isinstance(best, SessionBudget):
        yield from budgets_between(best, tried)


def _halfway(value: float, known: Iterable[float]) -> Iterator[float]:
    """Whole numbers halfway from a value to its neighbours."""
    values = sorted(known)
    at = values.index(value)
    for other in (values[max(at - 1, 0)], values[min(at + 1, len(values) - 1)]):
        middle = float(round((value * other) ** 0.5))
        if middle != value:
            yield middle


def _by_score(task: PlanningTask, score: str, values: I64) -> Iterator[Policy]:
    for below, above in pairs_of(task):
        for at in edges_of(task, values):
            yield Banded(edges=[at], arms=[below, above], score=score)


def pairs_of(task: PlanningTask) -> list[tuple[str, str]]:
    """Two arms that requests may be sent to, in either order."""
    return list(permutations(offered_to_all(task), 2))


def edges_of(task: PlanningTask, values: I64) -> list[float]:
    """Values of a score below which about so many parts of all prompt tokens are sent."""
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(task.population.prompt_tokens[order])
    places = np.searchsorted(upto, np.array(_PARTS) * upto[-1])
    found = set(values[order][np.minimum(places, len(values) - 1)].tolist())
    return [float(one) for one in sorted(found) if one > values[order[0]]]


# ---------------------------------------------------------------------------------------------------------- replicas


def on_sizes(task: PlanningTask, policy: Policy) -> Iterator[Proposal]:
    """A policy on the fewest replicas that carry what it sends to each pool, and a few more; with the least that it may cost."""
    model, expectations, times = task.model, task.expectations, 1.0
    if isinstance(policy, SessionBudget) and policy.at_end == "compact":
        expectations, times = made_shorter(task, policy)
    of_all, population = PerSource({SOURCE: policy}), expectations.population
    weight = times * population.weight
    arm: I64 = of_all.choose(population.as_requests(), model.arm_names)
    rows = np.arange(len(arm))
    load: F64 = expectations.gpu_s[arm, rows] * weight * task.rate_per_s
    at = np.array([one.deployment for one in model.arms])[arm]
    usd, whole = (
        float(table[arm, rows] @ weight) for table in (expectations.api_cost_usd, expectations.correct / times)
    )
    busy = {model.deployment_names[d]: float(load[at == d].sum()) for d in np.unique(at).tolist()}
    fixed = {name: some for name, some in busy.items() if has_fixed_cost(model.scenario.deployments[name])}
    options = [_sizes(task, name, some) for name, some in fixed.items()]
    for counts in product(*options):
        replicas = dict(zip(fixed, counts, strict=True))
        yield Proposal(of_all, replicas, whole, usd + task.pools_usd_per_request(replicas), {})


def _sizes(task: PlanningTask, name: str, load: float) -> list[int]:
    sizes = few_sizes(task, name)
    most = task.model.scenario.search.utilization
    return [size for size in sizes if size * most >= load][:_SIZES] or [sizes[-1]]


__all__ = ["BY_SESSION", "CANDIDATES", "kinds_of", "look_at_sessions"]
