"""Rules of autoscaling: which there are to choose from, what follows from one for another, and their words."""

from __future__ import annotations

from collections.abc import Mapping

from ttc_sim.scenario import Autoscaling, AutoscalingRule, GpuPool, PoolSearch, Scenario

_MORE = ("minimum", "maximum")


def rules_of(scenario: Scenario, name: str) -> list[AutoscalingRule | Autoscaling]:
    """Rules that a pool may have: those that the search names or, without any, its own."""
    searched = scenario.search.pools.get(name, PoolSearch()).autoscaling
    if searched is not None:
        return list(searched)
    own = scenario.deployments[name]
    return [own.autoscaling] if isinstance(own, GpuPool) and own.autoscaling is not None else []


def has_more(one: Autoscaling, other: Autoscaling) -> bool:
    """Whether a rule is another with a lower target, more at least or more at most, and nothing else; so that it has no fewer
    replicas at any time. Of times to first token nothing follows: they leap, and the number of replicas with them.

    >>> few = Autoscaling(target_queue=4, minimum=1, maximum=9)
    >>> has_more(Autoscaling(target_queue=2, minimum=1, maximum=9), few)
    True
    >>> has_more(few, Autoscaling(target_queue=4, minimum=1, maximum=9, every_s=30))
    False
    """
    if one.rule != other.rule or one.rule in ("schedule", "target_ttft_s"):
        return False
    free = {one.rule, *_MORE}
    alike = one.model_dump(exclude=free) == other.model_dump(exclude=free)
    return alike and one.target <= other.target and one.least >= other.least and one.most >= other.most


def words_of(scaled: Autoscaling) -> str:
    """A rule in a few words.

    >>> words_of(Autoscaling(target_queue=2, minimum=1, maximum=9, every_s=30))
    'target_queue 2, 1 to 9 replicas, every_s 30'
    """
    if scaled.schedule is not None:
        return f"schedule, {scaled.least} to {scaled.most} replicas"
    said: Mapping[str, object] = scaled.model_dump(exclude_none=True, exclude={scaled.rule, *_MORE})
    more = [f"{key} {value:g}" if isinstance(value, (int, float)) else f"{key} {value}" for key, value in said.items()]
    return ", ".join([f"{scaled.rule} {scaled.target:g}, {scaled.least} to {scaled.most} replicas", *more])


def with_fewer(scaled: Autoscaling, failed: int) -> Autoscaling:
    """Autoscaling where so many replicas cannot be had: a rule has so many fewer at most, a schedule so many fewer at any time,
    and at least 1.

    >>> with_fewer(Autoscaling(target_queue=4, minimum=2, maximum=3), 2).most
    1
    """
    if scaled.schedule is not None:
        steps = [one.model_copy(update={"replicas": max(one.replicas - failed, 1)}) for one in scaled.schedule]
        most = None if scaled.maximum is None else max(scaled.maximum - failed, 1)
        return scaled.model_copy(update={"schedule": steps, "minimum": None, "maximum": most})
    most = max(scaled.most - failed, 1)
    return scaled.model_copy(update={"maximum": most, "minimum": min(scaled.least, most)})


def count_after(scaled: Autoscaling, replicas: int) -> int:
    """Replicas at the start, of so many, as autoscaling has them."""
    return scaled.schedule[0].replicas if scaled.schedule else min(max(replicas, scaled.least), scaled.most)
