"""What an arm's tokens cost, and how long its deployment keeps what it has read: all that a policy knows of caches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError


@dataclass(frozen=True)
class TokenUsd:
    """US dollars per token of calls whose prompt is longer than ``above`` tokens, 0 for all.

    Attributes:
        input: of a prompt; cached: found in the cache; written: that the cache is made to keep; output: generated.
    """

    above: int
    input: float
    cached: float
    written: float
    output: float


@dataclass(frozen=True)
class ArmCosts:
    """Of one arm, whose requests are one call each.

    Attributes:
        deployment: that it is on: arms on the same one share its cache.
        usd: by length of the prompt, in ascending order, the first for all; the last that applies does. Of a pool, which is paid by
            the hour, nothing.
        usd_per_call: of each call, whatever its length.
        keeps: what its cache keeps of a request: nothing, its ``prompt``, or what was answered too (``all``).
        min_tokens: least that is kept or found; step_tokens: what is found is a multiple of it.
        ttl_s: seconds for which it is kept after it was last used.
    """

    deployment: str
    usd: tuple[TokenUsd, ...]
    usd_per_call: float = 0.0
    keeps: str = "nothing"
    min_tokens: int = 0
    step_tokens: int = 1
    ttl_s: float = math.inf


@dataclass(frozen=True)
class CostTable:
    """The costs of ``A`` arms on ``D`` deployments, as loops over requests take them.

    Attributes:
        on: (A,) deployment of each arm.
        usd: (A, tiers, 5) above, input, cached, written, output; tiers that an arm does not have never apply.
        rules: (A, 6) whether prompts are kept, whether answers are, ``ttl_s``, ``min_tokens``, ``step_tokens``, ``usd_per_call``.
        deployments: D.
    """

    on: I64
    usd: F64
    rules: F64
    deployments: int


def cost_table(costs: Mapping[str, ArmCosts] | None, arms: Sequence[str], *, where: str, needed: bool) -> CostTable:
    """Of these arms, in their order.

    Args:
        where: the policy, for errors; needed: whether it cannot do without.

    Raises:
        InputError: it cannot, and an arm has no costs.
    """
    known = costs or {}
    missing = [name for name in arms if name not in known]
    if needed and missing:
        expected = "an arm of one call a request, whose price is known"
        raise InputError("policy", where, missing[0], expected)
    # An arm of which nothing is known is a deployment of its own that keeps nothing.
    each = [known.get(name, ArmCosts(f"of arm {name}", (_FREE,))) for name in arms]
    places = list(dict.fromkeys(one.deployment for one in each))
    tiers = max((len(one.usd) for one in each), default=1)
    usd = np.full((len(each), tiers, 5), 0.0)
    usd[:, :, 0] = np.inf
    for k, one in enumerate(each):
        for t, tier in enumerate(one.usd):
            usd[k, t] = (tier.above, tier.input, tier.cached, tier.written, tier.output)
    rules = [
        (one.keeps != "nothing", one.keeps == "all", one.ttl_s, one.min_tokens, one.step_tokens, one.usd_per_call)
        for one in each
    ]
    return CostTable(
        on=np.array([places.index(one.deployment) for one in each], dtype=np.int64),
        usd=usd,
        rules=np.array(rules, dtype=np.float64).reshape(len(each), 6),
        deployments=max(len(places), 1),
    )


_FREE = TokenUsd(0, 0.0, 0.0, 0.0, 0.0)

__all__ = ["ArmCosts", "CostTable", "TokenUsd", "cost_table"]
