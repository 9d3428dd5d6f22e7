"""How often the engines differ: ``python -m benchmarks.agreement [--scenarios N] [--first SEED]``.

Both run the same small random scenarios: with times apart, and with times on a grid of quarters or tenths of a second, where
events meet at one instant (docs/engine-order.md). Statuses, tokens and preemptions are compared, and times to the last digit. A
scenario that differs is named by its seed: ``tests.random_scenarios.scenario(seed, times)``, every other one ``with_lives``: of
replicas that come and go and fail.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from tests.random_scenarios import TIMES, Times, differences, scenario, with_lives
from ttc_sim.engine import compiled, reference


def differing(times: Times, first: int, scenarios: int) -> dict[int, list[str]]:
    """What the engines do not agree on, by seed."""
    found = {}
    for seed in range(first, first + scenarios):
        case = scenario(seed, times)
        if seed % 2:
            case = with_lives(case, seed, times)
        given = case.works, case.names, case.deployments, case.rule, case.until_s
        names = differences(reference.run(*given, tables=case.tables), compiled.run(*given, tables=case.tables))
        if names:
            found[seed] = names
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=10_000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    given = parser.parse_args()
    compiled.warm_up()
    table = Table(title="random scenarios in which the engines differ")
    for column in ("times", "scenarios", "differ", "share", "seconds", "seeds"):
        table.add_column(column, justify="left" if column in ("times", "seeds") else "right")
    for times in TIMES:
        start = time.perf_counter()
        found = differing(times, given.first, given.scenarios)
        seconds, share = time.perf_counter() - start, len(found) / given.scenarios
        seeds = ", ".join(f"{seed} ({' '.join(names)})" for seed, names in list(found.items())[:5])
        table.add_row(times, f"{given.scenarios:,}", str(len(found)), f"{share:.2%}", f"{seconds:.0f}", seeds)
    Console().print(table)


if __name__ == "__main__":
    main()
