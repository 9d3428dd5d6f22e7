"""How often 95% intervals cover the truth: ``python -m benchmarks.intervals [--repetitions 200] [--only NAME] [--json FILE]``.

Made-up worlds whose truth is known by simulating far more than any user would. Each repetition draws another sample of problems
from an endless supply of them (task types first, then problems of each) and other runs, and asks what the intervals of one summary
cover:

* ``steady``, ``busy`` and ``day``: problems on a GPU pool and an API, by predicted difficulty, at an even rate, on a day with a
  busy hour, and on one with an overloaded hour; figures over all problems (``expected``), and by the requests alone (``records``);
* ``few``: 12 problems, or 12 task types, stand for all that will come;
* ``same types``: intervals for new problems of the very task types that were measured;
* ``two`` and ``single``: so many runs each;
* ``trace``: a recorded day replayed, lengths and arrivals fixed, by live load on a pool and an API whose times vary; its first 300
  requests; its arrivals with problems that are drawn;
* ``evaluate``: without a queue.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import expit, ndtri

from ttc_sim.base.draws import uniforms
from ttc_sim.base.estimates import Estimate
from ttc_sim.evaluation.evaluate import evaluate_attempts
from ttc_sim.files.writing import write_atomically
from ttc_sim.policies import LeastLoaded, Policy, Threshold
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize
from ttc_sim.strategies import BestOfN, Single
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload.population import Population

Rows = Mapping[str, Mapping[str, float]]

STEADY = {"process": "poisson", "rate_per_s": 4.0}
DAY = {
    "process": "piecewise",
    "steps": [{"duration_s": s, "rate_per_s": r} for s, r in ((120, 2.0), (60, 12.0), (120, 4.0), (60, 2.0))],
}
REQUESTS = 1500
_ATTEMPTS = 4


def world(arrivals: Mapping[str, Any], requests: int = REQUESTS, **workload: Any) -> Scenario:
    return scenario_from_dict(
        {
            "name": "intervals",
            "workload": {
                "arrivals": dict(arrivals),
                "requests": requests,
                "sources": {"all": {"problem_set": "made-up"}},
            }
            | workload,
            "deployments": {
                "pool": {
                    "kind": "gpu_pool",
                    "replicas": 1,
                    "usd_per_replica_hour": 4.0,
                    "max_num_seqs": 16,
                    "timeout_s": 30,
                    "step_time": {
                        "base_s": 0.02,
                        "per_prefill_token_s": 1e-5,
                        "per_sequence_s": 1e-4,
                        "per_kv_token_s": 1e-8,
                    },
                },
                "api": {
                    "kind": "api",
                    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 5.0},
                    "first_token": {"median_s": 0.5, "p95_s": 2.0},
                    "per_token": {"median_s": 0.01, "p95_s": 0.03},
                    "concurrency": 60,
                    "timeout_s": 15,
                },
            },
            "arms": {
                "own": {"deployment": "pool", **({} if "sources" in workload else {"profile": "a"})},
                "other": {"deployment": "api", **({} if "sources" in workload else {"profile": "b"})},
            },
        }
    )


BUSY = {
    "process": "piecewise",
    "steps": [{"duration_s": s, "rate_per_s": r} for s, r in ((120, 2.0), (60, 6.0), (120, 4.0), (60, 2.0))],
}


def problems(types: int, each: int, seed: int, by_type: bool, types_seed: int | None = None) -> Population:
    """So many task types with so many problems each: drawn from an endless supply of both; the types by a seed of their own."""
    u = ndtri(uniforms(seed if types_seed is None else types_seed, "types", types, 2))
    kind = np.repeat(np.arange(types, dtype=np.int64), each)
    v = ndtri(uniforms(seed, "problems", len(kind), 3))
    hard, long = 0.8 * u[kind, 0] + v[:, 0], 0.3 * u[kind, 1] + 0.6 * v[:, 1]
    start = np.arange(len(kind) + 1, dtype=np.int64) * _ATTEMPTS
    made = {}
    for name, skill in (("a", 0.3), ("b", 1.5)):
        w = uniforms(seed, f"attempts/{name}", len(kind), 2 * _ATTEMPTS)
        right = w[:, :_ATTEMPTS] < expit(skill - hard)[:, None]
        tokens = np.exp(4.8 + long[:, None] + 0.5 * ndtri(w[:, _ATTEMPTS:]) + 0.3 * ~right)
        output = np.clip(tokens, 1, 4000).astype(np.int64).ravel()
        made[name] = Attempts(name, start, np.full_like(output, 200), 0 * output, output, right.ravel(), None, False)
    return Population(
        sources=("all",),
        share=np.ones(1),
        problem=np.arange(len(kind)).astype(np.str_),
        group=kind.astype(np.str_),
        source=np.zeros(len(kind), dtype=np.int64),
        cluster=kind if by_type else np.arange(len(kind), dtype=np.int64),
        prompt_tokens=np.full(len(kind), 200, dtype=np.int64),
        scores={"difficulty": expit(hard + 0.7 * v[:, 2])},
        attempts=made,
        offered={"own": ("all",), "other": ("all",)},
        notes=(),
    )


def summary(model: Model, policy: Policy, label: str, runs: int, expected: bool) -> Summary:
    done = [run_once(model, policy, draw(model, k, purpose=label)) for k in range(runs)]
    if not expected or model.population is None:
        return summarize(model, done)
    arm = policy.choose(model.population.as_requests(), model.arm_names)
    return summarize(model, done, expected=expect_arms(model).under(arm))


def figures(found: Summary) -> dict[str, Estimate]:
    out = {
        "mean s": found.latency_s["mean"],
        "p50 s": found.latency_s["p50"],
        "p95 s": found.latency_s["p95"],
        "p99 s": found.latency_s["p99"],
        "ttft p95 s": found.ttft_s["p95"],
        "timed out": found.timeout_rate,
        "$": found.cost_usd_per_request,
        "tokens": found.tokens_per_request["output"],
    }
    return out if found.accuracy is None else {"accuracy": found.accuracy, **out}


def strategies(sample: Population) -> dict[str, Estimate]:
    """Figures of strategies on the problems, without a queue."""
    found = evaluate_attempts(sample.attempts["a"], sample.cluster, [Single(), BestOfN(n=3, auroc=0.8)])
    return {
        f"{short} {name}": figure
        for short, one in zip(("single", "best of 3"), found, strict=True)
        for name, figure in {"accuracy": one.accuracy, **one.intervals}.items()
    }


THRESHOLD = Threshold(at=0.5, below="own", above="other")
LIVE = LeastLoaded(["own", "other"])
CASES: dict[str, dict[str, Any]] = {
    "steady, expected": {"arrivals": STEADY, "expected": True},
    "steady, records": {"arrivals": STEADY},
    "steady, types": {"arrivals": STEADY, "expected": True, "by_type": True},
    "same types": {"arrivals": STEADY, "expected": True, "by_type": True, "same": True},
    "few, expected": {"arrivals": STEADY, "expected": True, "types": 12, "each": 1},
    "few, records": {"arrivals": STEADY, "types": 12, "each": 1},
    "few, types": {"arrivals": STEADY, "expected": True, "types": 12, "by_type": True},
    "busy, expected": {"arrivals": BUSY, "expected": True},
    "day, expected": {"arrivals": DAY, "expected": True},
    "day, records": {"arrivals": DAY},
    "day, three runs": {"arrivals": DAY, "expected": True, "runs": 3},
    "two, steady": {"arrivals": STEADY, "expected": True, "runs": 2},
    "two, day": {"arrivals": DAY, "expected": True, "runs": 2},
    "single, steady": {"arrivals": STEADY, "expected": True, "runs": 1},
    "single, busy": {"arrivals": BUSY, "expected": True, "runs": 1},
    "single, day": {"arrivals": DAY, "expected": True, "runs": 1},
    "trace": {"trace": True},
    "trace, short": {"trace": True, "first": 300},
    "trace, single": {"trace": True, "runs": 1},
    "trace, short, single": {"trace": True, "runs": 1, "first": 300},
    "trace, problems": {"trace": True, "drawn": True, "expected": True},
    "trace, problems, short": {"trace": True, "drawn": True, "expected": True, "first": 300},
    "evaluate": {"evaluate": True},
    "evaluate, types": {"evaluate": True, "by_type": True},
    "evaluate, few": {"evaluate": True, "types": 12, "each": 1},
}


def covered(
    name: str,
    repetitions: int,
    folder: Path,
    requests: int = REQUESTS,
    truth_runs: int = 200,
    truth_types: int = 30_000,
) -> dict[str, dict[str, float]]:
    """Share of intervals that cover the truth, and their mean width relative to the best that repetitions allow."""
    truth, found = measured(CASES[name], repetitions, folder, requests, truth_runs, truth_types)
    out = {}
    for figure, true in truth.items():
        low, value, high = (np.array([getattr(one[figure], end) for one in found]) for end in ("low", "value", "high"))
        slack = 1e-9 * abs(true)
        inside = (low <= true + slack) & (true - slack <= high)
        ideal = 2 * 1.96 * float(value.std())
        out[figure] = {
            "truth": true,
            "covered": float(inside.mean()),
            "above": float((low > true + slack).mean()),
            "below": float((high < true - slack).mean()),
            "width": float(np.median(high - low)) / ideal if ideal > 0 else 0.0,
        }
    return out


def measured(
    case: Mapping[str, Any], repetitions: int, folder: Path, requests: int, truth_runs: int, truth_types: int
) -> tuple[dict[str, float], list[dict[str, Estimate]]]:
    """The true figures of a case, and those with intervals of every repetition."""
    runs, expected, by_type = case.get("runs", 5), case.get("expected", False), case.get("by_type", False)
    requests = case.get("first", requests)
    types, each = case.get("types", 60), case.get("each", 5)
    fixed = 0 if case.get("same") else None

    def sample(k: int) -> Population:
        # Where problems are the unit, each is drawn alone, else whole types.
        return problems(types, each, k + 1, by_type, fixed) if by_type else problems(types * each, 1, k + 1, by_type)

    def all_that_come() -> Population:
        return (
            problems(types, truth_types // types, 0, by_type, 0) if fixed == 0 else problems(truth_types, 2, 0, by_type)
        )

    if case.get("evaluate"):
        whole = strategies(all_that_come())
        return values(whole), [strategies(sample(k)) for k in range(repetitions)]
    if case.get("trace") and not case.get("drawn"):
        model = load_model(replay(folder, requests))
        truth = figures(summary(model, LIVE, "truth", truth_runs, False))
        return values(truth), [figures(summary(model, LIVE, f"{k}", runs, False)) for k in range(repetitions)]
    scenario = replay(folder, requests, drawn=True) if case.get("trace") else world(case["arrivals"], requests)
    truth = figures(summary(load_model(scenario, all_that_come()), THRESHOLD, "truth", truth_runs, True))
    found = []
    for k in range(repetitions):
        one = summary(load_model(scenario, sample(k)), THRESHOLD, f"{k}", runs, expected)
        found.append({**figures(one), **(same_types(one) if fixed == 0 else {})})
    if fixed == 0:
        names = same_types(one)
        return {name: truth[name].value for name in names}, found
    return values(truth), found


def same_types(found: Summary) -> dict[str, Estimate]:
    """Figures with intervals for new problems of the same task types."""
    same = found.same_types
    return {"accuracy": same["accuracy"], "$": same["cost_usd_per_request"]}


def values(found: Mapping[str, Estimate]) -> dict[str, float]:
    return {name: figure.value for name, figure in found.items()}


def replay(folder: Path, requests: int, drawn: bool = False) -> Scenario:
    """A recorded day: its arrivals and lengths are fixed, or its arrivals alone while problems are drawn."""
    day = load_model(world(DAY, requests), problems(4000, 1, 7, False))
    record = draw(day, 0, purpose="record")
    assert record.row is not None
    attempts = day.population.attempts["a"] if day.population is not None else None
    assert attempts is not None
    output = attempts.visible_tokens[attempts.start[record.row]]
    lines = [f"{t:.6f},200,{o}" for t, o in zip(record.traffic.arrival_s, output, strict=True)]
    (folder / "day.csv").write_text("\n".join(["t,p,o", *lines]) + "\n")
    columns = {"arrival": "t", **({} if drawn else {"prompt_tokens": "p", "output_tokens": "o"})}
    trace = {"process": "trace", "file": str(folder / "day.csv"), "format": "csv", "columns": columns}
    return world(trace, requests, **({} if drawn else {"sources": {}}))


def print_coverage(
    said: str | None, cases: Iterable[str], covered: Callable[[str, int], Rows], *, truth: str, width: str
) -> None:
    """A table for each case of how often intervals cover the truth, as the command line asks.

    Args:
        said: of the module; covered: of a case and a number of repetitions, a row for each figure.
        truth: title of the column of what is true; width: of that of how wide the intervals are beside others.
    """
    parser = argparse.ArgumentParser(description=(said or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console, every = Console(width=150), {}
    for name in (name for name in cases if given.only in name):
        every[name] = covered(name, given.repetitions)
        table = Table(title=f"{name}: {given.repetitions} repetitions", header_style="bold")
        for column in ("figure", truth, "covered", "all above", "all below", width):
            table.add_column(column, justify="right")
        for figure, row in every[name].items():
            cells = (f"{row['covered']:.1%}", f"{row['above']:.1%}", f"{row['below']:.1%}", f"{row['width']:.2f}")
            table.add_row(figure, f"{row['truth']:.4g}", *cells)
        console.print(table)
    if given.json is not None:
        write_atomically(given.json, json.dumps(every, indent=2) + "\n")


def main() -> None:
    def in_a_folder(name: str, repetitions: int) -> Rows:
        with TemporaryDirectory() as folder:
            return covered(name, repetitions, Path(folder))

    print_coverage(__doc__, CASES, in_a_folder, truth="truth", width="width / ideal")


if __name__ == "__main__":
    main()
