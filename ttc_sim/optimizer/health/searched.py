"""Whether the plan stands at the edge of the space that was searched, where a wider one may hold a better plan."""

from __future__ import annotations

from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.subject import Subject, listed
from ttc_sim.optimizer.space import base_arm
from ttc_sim.policies import Banded, Threshold
from ttc_sim.scenario import GpuPool


def space_wide_enough(subject: Subject) -> Check:
    """Whether replicas, caps and bands are the most, or the fewest, that the search could choose."""
    name = "search space"
    at_bound = [*_replicas(subject), *_caps(subject), *_bands(subject)]
    figures: dict[str, object] = {"at_bound": at_bound}
    if not at_bound:
        return Check(name, "ok", "the plan's replicas, caps and bands lie within what the search could choose", figures)
    says = f"the plan is at the edge of what was searched: {listed([str(one['says']) for one in at_bound], 6)}. A "
    says += "wider space may hold a "
    return Check(name, "warning", f"{says}better plan", figures)


def _replicas(subject: Subject) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for name, item in subject.deployments.items():
        choices = sorted(set(subject.model.scenario.search.replicas.get(name, ())))
        if not isinstance(item, GpuPool) or item.autoscaling is not None or len(choices) < 2:
            continue
        if item.replicas == choices[-1]:
            says = f"{name} has the most replicas, {choices[-1]}"
        elif item.replicas == choices[0] and choices[0] > 1:
            says = f"{name} has the fewest replicas, {choices[0]}"
        else:
            continue
        found.append({"what": "replicas", "name": name, "value": item.replicas, "choices": choices, "says": says})
    return found


def _caps(subject: Subject) -> list[dict[str, object]]:
    """Of arms that are variants of one by their cap."""
    found: list[dict[str, object]] = []
    for name in subject.shares:
        own = subject.arms[name].strategy.attempt_cap
        variants = [arm.strategy.attempt_cap for arm in subject.model.arms if base_arm(arm.name) == base_arm(name)]
        caps = sorted(cap for cap in set(variants) if cap is not None)
        if len(set(variants)) < 2 or own is None:
            continue
        if own == caps[-1] and None not in variants:
            says = f"arm {name} has the highest cap, {own:,}"
        elif own == caps[0]:
            says = f"arm {name} has the lowest cap, {own:,}"
        else:
            continue
        found.append({"what": "cap", "name": name, "value": own, "choices": caps, "says": says})
    return found


def _bands(subject: Subject) -> list[dict[str, object]]:
    most = subject.model.scenario.search.max_bands
    found: list[dict[str, object]] = []
    for source, policy in subject.policies.items():
        count = len(policy.arms) if isinstance(policy, Banded) else 2 if isinstance(policy, Threshold) else 1
        if 1 < count >= most:
            says = f"{source or 'the policy'} has the most bands, {most}"
            found.append({"what": "bands", "name": source, "value": count, "choices": [most], "says": says})
    return found


__all__ = ["space_wide_enough"]
