"""How often paired intervals cover the true difference: ``python -m benchmarks.differences [--repetitions 200] [--only NAME]``.

The made-up worlds of :mod:`benchmarks.intervals`, as they are and in variations, on the same random numbers. Each repetition draws
another sample of problems and other runs; the truth is the difference on far more of both than any user would simulate. Beside the
share of intervals that cover it: how wide they are, relative to those of two simulations that know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.intervals import BUSY, DAY, REQUESTS, STEADY, THRESHOLD, print_coverage, problems, world
from ttc_sim.policies import Policy, Threshold
from ttc_sim.scenario import Scenario, with_changes
from ttc_sim.simulation.differences import Compared, compare
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize_pooled
from ttc_sim.workload.population import Population

FIGURES = (
    *("accuracy", "cost_usd_per_request", "cost_usd_per_month", "output_tokens_per_request"),
    *("ttft_p95_s", "latency_mean_s", "latency_p50_s", "latency_p95_s", "latency_p99_s", "timed_out_rate"),
)
VARIATIONS: dict[str, dict[str, object]] = {
    "cap": {"arms.own.strategy": "Single(cap=250)"},
    "price": {"deployments.api.price.output_usd_per_mtok": 3.0},
    "rate": {"workload.arrivals.rate_per_s": 5.0},
    "replicas": {"deployments.pool.replicas": 2},
    "policy": {},
}
_WORLDS: dict[str, dict[str, Any]] = {
    "steady": {"arrivals": STEADY},
    "types": {"arrivals": STEADY, "by_type": True},
    "few": {"arrivals": STEADY, "types": 12, "each": 1},
    "single": {"arrivals": STEADY, "runs": 1},
    "busy": {"arrivals": BUSY},
    "day": {"arrivals": DAY},
}
CASES: dict[str, dict[str, Any]] = {
    f"{kind}, {variation}": {**case, "variation": variation}
    for kind, case in _WORLDS.items()
    for variation in VARIATIONS
    if not (variation == "rate" and kind in ("busy", "day"))
}


def compared(
    scenarios: tuple[Scenario, Scenario], sample: Population, label: str, runs: int, policies: tuple[Policy, Policy]
) -> dict[str, Compared]:
    """Both scenarios on one sample of problems and the same draws."""
    found: list[tuple[Pooled, Summary]] = []
    for scenario, policy in zip(scenarios, policies, strict=True):
        model: Model = load_model(scenario, sample)
        done = [run_once(model, policy, draw(model, k, purpose=label)) for k in range(runs)]
        pooled = Pooled(model, done, expected_under(model, policy, done))
        found.append((pooled, summarize_pooled(pooled)))
    return compare(found[0][0], found[1][0], found[0][1], found[1][1])


def covered(
    case: Mapping[str, Any],
    repetitions: int,
    requests: int = REQUESTS,
    truth_runs: int = 200,
    truth_types: int = 30_000,
) -> dict[str, dict[str, float]]:
    """By figure: the true difference, the share of intervals that cover it, and how wide they are beside unpaired ones."""
    base = world(case["arrivals"], requests)
    scenarios = base, with_changes(base, VARIATIONS[case["variation"]])
    other = Threshold(at=0.6, below="own", above="other") if case["variation"] == "policy" else THRESHOLD
    policies: tuple[Policy, Policy] = THRESHOLD, other
    types, each, by_type, runs = (
        case.get("types", 60),
        case.get("each", 5),
        case.get("by_type", False),
        case.get("runs", 5),
    )
    truth = compared(scenarios, problems(truth_types, 2, 0, by_type), "truth", truth_runs, policies)
    sample: Callable[[int], Population] = (
        (lambda k: problems(types, each, k + 1, True))
        if by_type
        else (lambda k: problems(types * each, 1, k + 1, False))
    )
    found = [compared(scenarios, sample(k), f"{k}", runs, policies) for k in range(repetitions)]
    out = {}
    for name in FIGURES:
        true = truth[name].difference.value
        slack = 1e-9 * abs(true)
        low, high = (np.array([getattr(one[name].difference, end) for one in found]) for end in ("low", "high"))
        apart = [_unpaired_width(one[name]) for one in found]
        with np.errstate(divide="ignore", invalid="ignore"):
            width = np.where(np.isfinite(high - low), (high - low) / np.array(apart), np.nan)
        out[name] = {
            "truth": true,
            "covered": float(((low <= true + slack) & (true - slack <= high)).mean()),
            "above": float((low > true + slack).mean()),
            "below": float((high < true - slack).mean()),
            "width": float(np.nanmedian(width)) if np.isfinite(width).any() else float("nan"),
        }
    return out


def _unpaired_width(one: Compared) -> float:
    return float(np.hypot(one.before.high - one.before.low, one.after.high - one.after.low))


def main() -> None:
    print_coverage(
        __doc__,
        CASES,
        lambda name, count: covered(CASES[name], count),
        truth="true difference",
        width="width / unpaired",
    )


if __name__ == "__main__":
    main()
