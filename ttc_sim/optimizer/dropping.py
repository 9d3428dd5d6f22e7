"""How deployments may leave requests without an answer, and the target that would say how many."""

from __future__ import annotations

from collections.abc import Mapping

from ttc_sim.scenario import Api, GpuPool, SourceTargets
from ttc_sim.scenario.deployments import PER_MINUTE

_KEYS = {
    "timed_out_rate": ("timeout_s", "deadline_s"),
    "rejected_rate": ("queue_limit", "concurrency", *PER_MINUTE, "kv_cache_tokens"),
    "failed_rate": ("failures", "errors"),
}
LIMITS_OF_MEMORY = ("kv_cache_tokens",)


def drops_of(item: Api | GpuPool, besides: tuple[str, ...] = ()) -> dict[str, str]:
    """By the target that counts such requests, the key of a deployment by which it may drop some.

    Args:
        besides: keys that are known to drop none.
    """
    found = {}
    for target, keys in _KEYS.items():
        key = next((one for one in keys if one not in besides and getattr(item, one, None) is not None), None)
        if key is not None:
            found[target] = key
    return found


def may_drop(deployments: Mapping[str, Api | GpuPool], besides: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """By target the first deployment that may drop requests so, and its key; empty if all are answered in the end."""
    found: dict[str, tuple[str, str]] = {}
    for name, item in deployments.items():
        for target, key in drops_of(item, besides).items():
            found.setdefault(target, (name, key))
    return found


def most_dropped(block: SourceTargets, ways: Mapping[str, object]) -> float:
    """Share of requests that targets let go without an answer, of those ways to drop some; 1 where they say nothing of one."""
    each = [getattr(block, target) for target in ways]
    together = 1.0 if None in each else float(sum(each))
    return min(together, 1.0 if block.timeout_rate is None else block.timeout_rate)


__all__ = ["LIMITS_OF_MEMORY", "drops_of", "may_drop", "most_dropped"]
