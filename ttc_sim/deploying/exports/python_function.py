"""``python``: a plan's routes as one Python file that needs the standard library alone."""

from __future__ import annotations

from collections.abc import Mapping

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.literals import literal
from ttc_sim.deploying.exports.routing import routing_of
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

FILE = "route.py"

_BEGIN = '''"""Routes of a plan of ttc-sim: where each request goes, and with how many tokens at most. Any Python from 3.9 on.

>>> route("SOURCE", {"difficulty": 0.3}, prompt_tokens=200)["arm"]  # doctest: +SKIP
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Mapping
from numbers import Real
from typing import Any
'''

_CODE = '''

def route(
    source: str | None = None, scores: Mapping[str, float] | None = None, *, prompt_tokens: int | None = None
) -> dict[str, Any]:
    """Where a request goes.

    Args:
        source: that it comes from, one of ``SOURCES``; may be left out where there is one only.
        scores: what the plan's predictor says of it, by name: ``difficulty``, ``p:MODEL``, ``tokens:MODEL``, ...
        prompt_tokens: as the model counts them; needed only where the plan looks at them.

    Returns:
        ``arm``, ``deployment``, ``max_tokens`` of one attempt (``None``: the model's own limit), ``strategy`` with its parameters,
        ``fallbacks`` (arms to go on to), and ``endpoint``, where that was told.

    Raises:
        ValueError: a source that is not known, or a score that is needed and is missing or no finite number.
    """
    if source is None and len(SOURCES) == 1:
        source = next(iter(SOURCES))
    if not isinstance(source, str) or source not in SOURCES:
        raise ValueError(f"source: got {source!r}; expected one of {', '.join(map(repr, SOURCES))}")
    rule, known = SOURCES[source], scores or {}
    if "prices" in rule:
        arm = _worth_most(rule, source, known, prompt_tokens)
    elif rule["score"] is None:
        arm = rule["arms"][0]
    else:
        arm = rule["arms"][bisect_right(rule["edges"], _score(rule["score"], known, prompt_tokens))]
    return {"arm": arm, **copy.deepcopy(ARMS[arm])}


def _score(name: str, scores: Mapping[str, float], prompt_tokens: int | None) -> float:
    value = scores[name] if name in scores else prompt_tokens if name == "prompt_tokens" else None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"score {name!r}: got {value!r}; expected a finite number")
    return float(value)


def _worth_most(
    rule: Mapping[str, Any], source: str, scores: Mapping[str, float], prompt_tokens: int | None
) -> str:
    """The arm of highest expected value in US dollars; of equal ones the first."""
    best, chosen = -math.inf, None
    for one in rule["responses"]:
        values = [_feature(name, source, scores, prompt_tokens) for name in one["features"]]
        values = [min(max(value, low), high) for value, (low, high) in zip(values, one["ranges"])]
        correct = 1.0 / (1.0 + _exp(-_dot(values, one["correct"])))
        api_usd, gpu_s = (0.0 if one[name] is None else _exp(_dot(values, one[name])) for name in ("api_cost_usd", "gpu_s"))
        cost_usd = api_usd + one["gpu_usd_per_s"] * gpu_s
        seconds = _exp(_dot(values, one["seconds"]))
        worth = rule["prices"]["accuracy"] * correct - cost_usd - rule["prices"]["second"] * seconds
        if worth > best:
            best, chosen = worth, one["arm"]
    if chosen is None:
        raise ValueError(f"source {source!r}: got scores for which no arm is worth a finite sum")
    return chosen


def _feature(name: str, source: str, scores: Mapping[str, float], prompt_tokens: int | None) -> float:
    kind, _, rest = name.partition(" ")
    if name == "1":
        return 1.0
    if kind == "source":
        return float(rest == source)
    if name == "log prompt_tokens":
        # Of the prompt itself, whatever the scores say.
        return math.log(max(_score("prompt_tokens", {}, prompt_tokens), 1.0))
    if kind == "novelty":
        return _score("novelty", scores, prompt_tokens)
    if kind == "logit":
        chance = min(max(_score(rest, scores, prompt_tokens), 0.005), 0.995)
        return math.log(chance / (1.0 - chance))
    if kind == "log":
        return math.log(max(_score(rest, scores, prompt_tokens), 1.0))
    cap, _, model = rest.partition(" ")
    middle, high = (
        math.log(max(_score(f"{tokens}:{model}", scores, prompt_tokens), 1.0)) for tokens in ("tokens_p50", "tokens_p90")
    )
    z = (math.log(int(cap)) - middle) / max((high - middle) / 1.2815515655446004, 0.05)
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _dot(values: list[float], weights: list[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


__all__ = ["ARMS", "SOURCES", "route"]
'''


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """The file.

    Raises:
        InputError: a policy that is Python of the user's own.
    """
    routing = routing_of(plan, endpoints)
    tables = {"ARMS": dict(routing.arms), "SOURCES": dict(routing.sources)}
    data = "".join(f"\n{name}: dict[str, Any] = {literal(table, ascii, ascii)}\n" for name, table in tables.items())
    source = next(iter(routing.sources))
    how = f"from route import route; route({source!a}, scores, prompt_tokens=n), in the folder of {FILE}"
    return Export({FILE: _BEGIN + data + _CODE}, routing.not_expressed, (how,))


__all__ = ["FILE", "export"]
