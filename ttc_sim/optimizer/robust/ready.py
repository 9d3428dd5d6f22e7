"""Ready-made worlds: what is most often not as it was believed to be, each by as much as it often is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.prices import KINDS
from ttc_sim.strategies import BestOfN, Cascade, Strategy

_SLOWER = "1.4x"  # 0.7 of the speed
_WORSE = 0.8  # what is left of how far a verifier's AUROC lies above a half


@dataclass(frozen=True)
class ReadyWorld:
    """One ready-made world.

    Attributes:
        why: what it stands for, and why by so much.
        changes: by path, what differs in it; nothing where it has nothing to change.
    """

    why: str
    changes: Callable[[Base], Mapping[str, object]]


def _busy(base: Base) -> Mapping[str, object]:
    return {"ready.traffic": "1.5x"}


def _long(base: Base) -> Mapping[str, object]:
    return {"ready.lengths": "1.3x"}


def _dear(base: Base) -> Mapping[str, object]:
    changes: dict[str, object] = {}
    for name, served in base.scenario.deployments.items():
        if isinstance(served, GpuPool):
            changes |= {f"deployments.{name}.{key}": 1.2 * usd for key, usd in served.hourly_prices.items()}
            changes[f"deployments.{name}.usd_per_replica_hour"] = "1.2x"
            continue
        prices = base.model.prices[base.model.deployment_names.index(name)]
        # What depends on the hour, or on how long a prompt is, has no one multiple; tiers to choose from set the factor themselves.
        many = prices is not None and (
            prices.schedule is not None or (bool(prices.long_prompts) and base.model.population is None)
        )
        if prices is not None and many and name not in base.scenario.search.tiers:
            if not prices.free:
                changes[f"deployments.{name}.price.factor"] = "1.2x"
            continue
        for key in (*(f"{kind}_usd_per_mtok" for kind in KINDS), "usd_per_call", "least_usd_per_call"):
            path = f"deployments.{name}.price.{key}"
            now = base.in_effect(path)
            if isinstance(now, float | int) and now > 0:
                changes[path] = "1.2x"
    return changes


def _slow(base: Base) -> Mapping[str, object]:
    changes: dict[str, object] = {}
    for name, served in base.scenario.deployments.items():
        if isinstance(served, Api):
            for time in ("first_token", "per_token"):
                latency = getattr(served, time)
                changes[f"deployments.{name}.{time}.median_s"] = _SLOWER
                if latency.p95_s is not None:
                    changes[f"deployments.{name}.{time}.p95_s"] = _SLOWER
    return changes


def _misrouted(base: Base) -> Mapping[str, object]:
    population = base.model.population
    return {"ready.predictor": "noise:0.8"} if population is not None and population.scores else {}


def _misjudged(base: Base) -> Mapping[str, object]:
    found = {}
    for name in base.scenario.arms:
        auroc = auroc_of(base.scenario.parsed_strategy(name))
        if auroc is not None and auroc > 0.5:
            found[f"ready.verifier:{name}"] = float(f"{0.5 + _WORSE * (auroc - 0.5):.4g}")
    return found


def auroc_of(strategy: Strategy) -> float | None:
    """That of a strategy's verifier or judge, given or by its rates; ``None`` where it has none, or its scores were measured.

    >>> auroc_of(BestOfN(4, auroc=0.8))
    0.8
    """
    if isinstance(strategy, BestOfN) and strategy.auroc is not None:
        return strategy.auroc
    if not isinstance(strategy, BestOfN | Cascade) or strategy.tpr is None or strategy.fpr is None:
        return None
    apart = float(ndtri(min(max(strategy.tpr, 1e-3), 1 - 1e-3)) - ndtri(min(max(strategy.fpr, 1e-3), 1 - 1e-3)))
    return float(ndtr(apart / math.sqrt(2)))


_LONG = "1.3x the output tokens: new prompts, or a model's new version, think longer than what was measured"
_MISJUDGED = "0.8 of what verifiers tell apart (AUROC above a half): on answers unlike those they were tested on"
READY_WORLDS: Mapping[str, ReadyWorld] = {
    "busy": ReadyWorld("1.5x the requests: a forecast of traffic is off by half in a busy month", _busy),
    "long": ReadyWorld(_LONG, _long),
    "dear": ReadyWorld("1.2x the prices of APIs and GPUs: contracts end, and GPUs are scarce", _dear),
    "slow": ReadyWorld("APIs at 0.7 of their speed: at a provider's busy hours", _slow),
    "misrouted": ReadyWorld("0.8 of the predictor's correlation: on prompts unlike those it learnt from", _misrouted),
    "misjudged": ReadyWorld(_MISJUDGED, _misjudged),
}
"""By name: those that a plan is made for where none is named, as far as there is something to change."""


def changes_of(name: str, base: Base, where: str) -> Mapping[str, object]:
    """What a ready-made world changes.

    Raises:
        InputError: there is nothing that it could change.
    """
    changes = READY_WORLDS[name].changes(base)
    if not changes:
        raise InputError(where, "world", name, f"a world that has something to change here: {_NEEDS[name]}")
    return changes


_NEEDS = {
    "dear": "there is no price above 0",
    "slow": "there is no API",
    "misrouted": "no problem has a predictor's scores",
    "misjudged": "no arm has a verifier or judge given by its auroc or its rates",
}

__all__ = ["READY_WORLDS", "ReadyWorld", "auroc_of", "changes_of"]
