"""A million turns of recorded sessions, on one core: ``python -m benchmarks.turns [--turns N] [--json FILE]``.

Drawn, simulated and billed: at an API with a prompt cache, at two with a policy that follows sessions, and at a GPU pool with a
prefix cache. Beside each stands what as many plain requests take, without sessions and caches: the ratio is what they add.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import ttc_sim as ttc
from ttc_sim.base.threads import one_thread
from ttc_sim.files.writing import write_atomically
from ttc_sim.policies import Policy

POLICIES: dict[str, tuple[str, Policy]] = {
    "an API with a cache": ("opus", ttc.Always("opus")),
    "two, and a policy that stays": (
        "opus",
        ttc.Sticky(ttc.Threshold(at=20, below="haiku", above="opus", score="turn"), turns=10),
    ),
    "a pool with a cache": ("glm", ttc.Always("glm")),
}
REPLICAS = 12
"""Of the pool: it keeps up."""


def took_s(scenario: ttc.Scenario, policy: Policy, turns: int) -> float:
    """Seconds of one core to draw, simulate and bill so many."""
    with one_thread():
        began_s = time.process_time()
        ttc.simulate(scenario, policy, requests=turns, replications=1)
        return time.process_time() - began_s


def measured(turns: int) -> list[dict[str, object]]:
    """A row for each policy."""
    sessions = ttc.with_changes(ttc.load_scenario("coding-agent"), {"deployments.glm-pool.replicas": REPLICAS})
    plain = ttc.with_changes(
        sessions,
        {
            "workload.arrivals": {"process": "poisson", "rate_per_s": 0.15},
            "workload.lengths": {"prompt_tokens": 4000, "output_tokens": {"median": 200, "p95": 1500}},
            **{f"deployments.{name}.cache": None for name in ("opus-api", "haiku-api")},
            "policy": "Always('opus')",
        },
    )
    rows: list[dict[str, object]] = []
    for name, (arm, policy) in POLICIES.items():
        for scenario, chosen in ((sessions, policy), (plain, ttc.Always(arm))):
            took_s(scenario, chosen, min(turns, 2000))  # compiles, and reads what there is to read
        with_sessions, without = took_s(sessions, policy, turns), took_s(plain, ttc.Always(arm), turns)
        row = {"at": name, "turns": turns, "s": with_sessions, "plain_s": without, "ratio": with_sessions / without}
        print(
            f"{name}: {turns:,} turns in {with_sessions:.2f} s, {row['ratio']:.2f} times as many plain requests' time"
        )
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print, and write down."""
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reading.add_argument("--turns", type=int, default=1_000_000)
    reading.add_argument("--json", type=Path)
    asked = reading.parse_args()
    rows = measured(asked.turns)
    if asked.json is not None:
        write_atomically(asked.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
