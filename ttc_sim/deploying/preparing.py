"""A saved plan looked up before it is carried out: what may be chosen, tried and fallen back on, and what is expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.arguments import location
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.arms import LiveArm, check_strategies, live_arm, not_running, offered_to, reached
from ttc_sim.deploying.endpoints import Endpoint, read_endpoints
from ttc_sim.deploying.expecting import Expected, expect
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Policy
from ttc_sim.scenario import GpuPool

_ALL = ("traffic",)  # the one source of a workload that names none
_LOOKS = (
    "the policy looks at live load, which is what was sent and has not ended: whoever carries decisions out says so by "
    "runtime.sent and runtime.ended, as runtime.run does"
)
_BUDGET = "the plan's hard budget is for the caller to keep: a runtime counts no money"


@dataclass(frozen=True)
class Prepared:
    """A plan looked up.

    Attributes:
        sources: of requests; policies: by source.
        arms: that the policy may choose, by source; tried: that may be tried on purpose, empty unless some are.
        live: arms by name: those, their fallbacks, and what cascades go on to.
        begins_at: by arm of the scenario, the deployment that its first call goes to.
        fallback_arms: by source.
        expected: of the arms.
        notes: what is assumed, and what is not known.
    """

    sources: tuple[str, ...]
    policies: Mapping[str, Policy]
    arms: Mapping[str, tuple[str, ...]]
    tried: Mapping[str, tuple[str, ...]]
    live: Mapping[str, LiveArm]
    begins_at: tuple[str, ...]
    fallback_arms: Mapping[str, str]
    expected: Expected
    notes: tuple[str, ...]


def prepare(plan: SavedPlan, where: str, *, explore: bool, fallback_arm: object) -> Prepared:
    """Look a plan up.

    Args:
        where: that errors name; explore: whether arms are tried on purpose; fallback_arm: as for a runtime.

    Raises:
        InputError: what cannot be carried out.
    """
    scenario = plan.scenario
    policy = scenario.parsed_policy()
    assert policy is not None  # a plan has one
    policy.get_ready()
    if policy.uses_responses and scenario.responses is None:
        expected = "the responses that the policy was planned with, as `ttc-sim optimize --plan` writes them"
        raise InputError(where, "scenario.responses", None, expected)
    sources = tuple(scenario.workload.sources) or _ALL
    policies = {source: policy.for_source(source) for source in sources}
    offered = {source: offered_to(scenario, source, policies[source]) for source in sources}
    for source in sources:
        _check_named(policies[source], offered[source], where, source)
    arms = {source: policies[source].arm_names() or offered[source] for source in sources}
    given = _given(fallback_arm, offered, where)
    chosen = reached(scenario, [*_each(arms), *given.values()])
    check_strategies(scenario, chosen, where)
    notes: list[str] = []
    candidates: dict[str, tuple[str, ...]] = {}
    if explore:
        idle = not_running(scenario, chosen, list(dict.fromkeys(_each(offered))))
        if idle:
            notes.append(f"not tried: {', '.join(idle)}, as the plan does not pay for what runs them")
        candidates = {
            source: tuple(arm for arm in names if arm in arms[source] or arm not in idle)
            for source, names in offered.items()
        }
    used = reached(scenario, [*chosen, *_each(candidates)])
    check_strategies(scenario, used, where)
    found = expect(scenario, policy, used)
    arms = {source: _measured_on(found, names, policies[source], where, source) for source, names in arms.items()}
    tried = {
        source: tuple(arm for arm in names if arm in arms[source] or _measured(found, arm, source))
        for source, names in candidates.items()
    }
    live = {name: live_arm(scenario, name) for name in used}
    fallback_arms, said = (given, ()) if given else _usual(found, arms)
    looks = any(one.looks_at_load for one in policies.values())
    scaled = [name for name, item in scenario.deployments.items() if isinstance(item, GpuPool) and item.autoscaling]
    if looks and scaled:
        notes.append(f"as many replicas of {', '.join(scaled)} are taken to be in service as the plan has at the start")
    return Prepared(
        sources=sources,
        policies=policies,
        arms=arms,
        tried=tried,
        live=live,
        begins_at=tuple(
            live[name].begins_at if name in live else scenario.arms[name].deployment for name in scenario.arms
        ),
        fallback_arms=fallback_arms,
        expected=found,
        notes=(
            *plan.notes,
            *found.notes,
            *notes,
            *said,
            *([_LOOKS] if looks else []),
            *([_BUDGET] if scenario.budget is not None else []),
        ),
    )


def _each(by_source: Mapping[str, Sequence[str]]) -> Iterator[str]:
    return (name for names in by_source.values() for name in names)


def _check_named(policy: Policy, offered: Sequence[str], where: str, source: str) -> None:
    """An arm that a policy names must be offered to its source, as in a simulation."""
    for name in policy.arm_names():
        if name not in offered:
            expected = f"an arm that is offered to source {source}: " + ", ".join(offered)
            raise InputError(where, f"scenario.policy of source {source}", name, expected)


def _given(fallback_arm: object, offered: Mapping[str, tuple[str, ...]], where: str) -> dict[str, str]:
    """Arms to fall back on by source, as they were said; empty if they were not."""
    if fallback_arm is None:
        return {}
    said = fallback_arm if isinstance(fallback_arm, Mapping) else dict.fromkeys(offered, fallback_arm)
    for source in said:
        if source not in offered:
            raise InputError(where, "fallback_arm", source, nearest(str(source), offered))
    found: dict[str, str] = {}
    for source, names in offered.items():
        name = said.get(source)
        if not isinstance(name, str) or name not in names:
            raise InputError(where, f"fallback_arm of source {source}", name, nearest(str(name), names))
        found[source] = name
    return found


def _measured_on(found: Expected, names: tuple[str, ...], policy: Policy, where: str, source: str) -> tuple[str, ...]:
    """Of the arms that may be chosen those that were measured on the source's problems, as far as that is known: a simulation
    refuses to send it to others.

    Raises:
        InputError: the policy names another one, or there is none.
    """
    able = tuple(arm for arm in names if _measured(found, arm, source))
    missing = [arm for arm in names if arm not in able]
    if missing and (policy.arm_names() or not able):
        measured = [arm for arm, sources in (found.offered or {}).items() if source in sources]
        expected = f"an arm whose profile was measured on source {source}: " + ", ".join(measured)
        raise InputError(where, f"scenario.policy of source {source}", missing[0], expected)
    return able


def _measured(found: Expected, arm: str, source: str) -> bool:
    return found.offered is None or source in found.offered.get(arm, ())


def _usual(found: Expected, arms: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """By source, the arm that most of its requests are expected at, or else the first; and what is said of it."""
    usual: dict[str, str] = {}
    notes = []
    for source, names in arms.items():
        used = {arm: part for arm, part in found.used.get(source, {}).items() if arm in names}
        usual[source] = max(used, key=lambda arm: used[arm]) if used else names[0]
        known = (
            f"where the plan is expected to send {used[usual[source]]:.0%} of them" if used else "the first of its arms"
        )
        notes.append(f"requests of {source} fall back on {usual[source]}, {known}, if their policy cannot be asked")
    return usual, tuple(notes)


def endpoints_of(given: str | Path | Mapping[str, Endpoint] | None, plan: SavedPlan) -> Mapping[str, Endpoint]:
    """Endpoints as they were given, or as their file says."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return read_endpoints(
            location("runtime", "endpoints", given, "a file, or an Endpoint for each deployment"), plan
        )
    for name, one in given.items():
        if name not in plan.scenario.deployments:
            raise InputError("runtime", "endpoints", name, nearest(str(name), plan.scenario.deployments))
        if not isinstance(one, Endpoint):
            raise InputError("runtime", f"endpoints.{name}", one, "an Endpoint(url=..., model=...)")
    return dict(given)


__all__ = ["Prepared", "endpoints_of", "prepare"]
