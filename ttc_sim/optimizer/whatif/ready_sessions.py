"""Ready-made variations of sessions: shorter contexts, no caches or others, and whether sessions switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.optimizer.whatif.effects import Asked, Effect
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.policies import Policy, Sticky, follows_sessions
from ttc_sim.scenario import Api, Arrivals, GpuPool, Scenario, Sessions
from ttc_sim.scenario.sessions import may_have_sessions

_LEFT = 5  # of a context, once it is made shorter, a fifth is left unless the scenario says what
_SWITCHING = "never, freely or if-it-pays"


def _compact(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    above = asked.value
    if above == "none":
        above = None
    if above is not None and (
        isinstance(above, bool) or not isinstance(above, int) or not _LEFT <= above <= MOST_TOKENS
    ):
        raise asked.wrong(f"a whole number of prompt tokens, from {_LEFT} to {MOST_TOKENS:,}, or none")
    changes: dict[str, object] = {}
    notes = []
    for path, arrivals in _processes(scenario):
        if not isinstance(arrivals, Sessions):
            continue
        if above is None:
            changes[f"{path}.compact"] = None
            continue
        own = None if arrivals.compact is None else arrivals.compact.to_tokens
        left = own if own is not None and own < above else above // _LEFT
        changes[f"{path}.compact"] = {"above_tokens": above, "to_tokens": left}
        notes.append(f"contexts of more than {above:,} tokens are made shorter, to {left:,}")
    if not changes:
        raise asked.wrong("arrivals of sessions (process: sessions), whose contexts can be made shorter")
    return Effect(changes, notes=tuple(dict.fromkeys(notes)))


def _cache(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    if asked.value not in ("off", False):  # YAML reads off as false
        raise asked.wrong("off; another time to live is cache-ttl=SECONDS")
    changes: dict[str, object] = {}
    for name, item in scenario.deployments.items():
        if isinstance(item, Api) and item.cache is not None:
            changes[f"deployments.{name}.cache"] = None
        elif isinstance(item, GpuPool) and item.prefix_caching:
            changes[f"deployments.{name}.prefix_caching"] = False
    if not changes:
        raise asked.wrong("a deployment that has a cache: none has")
    return Effect(changes)


def _ttl(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    seconds = asked.value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise asked.wrong("seconds above 0 that prompts are kept after they were last used")
    deployments = scenario.deployments.items()
    cached = {name: item for name, item in deployments if isinstance(item, Api) and item.cache is not None}
    if not cached:
        raise asked.wrong("an endpoint that has a cache: none has")
    stated = [name for name, item in cached.items() if item.price.cache_write_usd_per_mtok is not None]
    notes = [
        f"what it costs to write to the cache of {name} stays as it is stated; a provider may ask for more the longer it keeps"
        for name in stated
    ]
    return Effect({f"deployments.{name}.cache.ttl_s": seconds for name in cached}, notes=tuple(notes))


def _switch(asked: Asked, base: Base, scenario: Scenario, replan: bool) -> Effect:
    if asked.value not in ("never", "freely", "if-it-pays"):
        raise asked.wrong(_SWITCHING)
    policy = scenario.parsed_policy()
    if policy is None or not may_have_sessions(scenario.workload):
        raise asked.wrong("a policy, and arrivals of sessions")
    if not isinstance(scenario.policy, str):
        raise asked.wrong("one policy for all sources", scenario.policy)
    inner = policy.policy if isinstance(policy, Sticky) else policy
    if policy.looks_at_load or (follows_sessions(inner) and asked.value != "freely"):
        raise asked.wrong("a policy that looks at each turn alone, or Sticky(...) of one", repr(policy))
    made: Policy = inner
    if asked.value != "freely":
        made = Sticky(inner, moves=0) if asked.value == "never" else Sticky(inner)
    if repr(made) == repr(policy):
        raise asked.wrong("another way to switch than the policy's own", repr(policy))
    return Effect({"policy": repr(made)})


def _processes(scenario: Scenario) -> Iterator[tuple[str, Arrivals]]:
    """Arrivals by their path."""
    workload = scenario.workload
    if workload.arrivals is not None:
        yield "workload.arrivals", workload.arrivals
    for name, one in workload.sources.items():
        if one.arrivals is not None:
            yield f"workload.sources.{name}.arrivals", one.arrivals


OF_SESSIONS: Mapping[str, Callable[[Asked, Base, Scenario, bool], Effect]] = {
    "compact": _compact,
    "cache": _cache,
    "cache-ttl": _ttl,
    "switch": _switch,
}
SAID_OF_SESSIONS = {
    "compact": "compact=100000, none: contexts of sessions that are longer are made shorter, to a fifth of that",
    "cache": "cache=off: no deployment finds a prompt again",
    "cache-ttl": "cache-ttl=3600: endpoints keep prompts so many seconds after they were last used",
    "switch": f"switch={_SWITCHING}: whether a session stays where its first turn went, goes where the policy says, or moves "
    "where the cache that is lost costs no more than to stay",
}
"""By name, what each takes and does."""

__all__ = ["OF_SESSIONS", "SAID_OF_SESSIONS"]
