"""Logs of a plan whose truth is known: every request is simulated on every arm, and what is logged is drawn from those."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.deploying.decisions import Decision, Outcome, Predicted, grade_line
from ttc_sim.policies import Policy, Requests, parse_policy
from ttc_sim.policies.policy import choose_arms
from ttc_sim.scenario import Api, Scenario
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.result import simulate

BEGAN = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
_STATUS = {"completed": "answered", "timed_out": "timed_out", "rejected": "rejected", "failed": "failed"}
_FIGURES = {"correct": "chance", "output_tokens": "tokens", "usd": "usd", "latency_s": "seconds"}


@dataclass(frozen=True)
class EveryArm:
    """What every arm would make of the same ``n`` requests.

    Attributes:
        requests: as a policy sees them; arms: names; offered: (n, arms) which may serve each.
        records: by arm, a row per request: ``correct`` (1, 0, or NaN where the traffic has no problems), ``usd`` (API calls),
            ``latency_s``, ``output_tokens``, ...; where an arm is not offered, those of another that is.
        expected: by arm and by name of ``Predicted``, (n,): means over requests of like difficulty.
    """

    scenario: Scenario
    requests: Requests
    arms: tuple[str, ...]
    offered: NDArray[np.bool_]
    records: Mapping[str, pl.DataFrame] = field(repr=False)
    expected: Mapping[str, Mapping[str, F64]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.requests)

    def chosen(self, policy: Policy | str | None = None) -> I64:
        """The arm that a policy, or the scenario's own, chooses for each request."""
        made = self.scenario.parsed_policy() if policy is None else policy
        assert made is not None
        return choose_arms(parse_policy(made) if isinstance(made, str) else made, self.requests, self.arms)

    def figure(self, name: str, arm: I64) -> F64:
        """(n,) of each request on its arm."""
        table = np.stack([self.records[one][name].to_numpy() for one in self.arms])
        return np.asarray(table[arm, np.arange(len(self))], dtype=np.float64)


def every_arm(scenario: Scenario, requests: int) -> EveryArm:
    """Simulate the same requests on each arm of the scenario."""
    model = load_model(scenario.model_copy(update={"policy": None}))
    sources = scenario.workload.sources
    serving = {arm.name: set(arm.sources) for arm in model.arms}
    records, seen = {}, None
    for name in model.arm_names:
        policy: Any = f"Always('{name}')"
        if sources:
            able = {one: [arm for arm in model.arm_names if one in serving[arm]] for one in sources}
            policy = {one: f"Always('{name if name in able[one] else able[one][0]}')" for one in sources}
        result = simulate(scenario, policy, requests=requests, replications=1)
        billed = isinstance(scenario.deployments[scenario.arms[name].deployment], Api)
        records[name] = result.records.sort("request").with_columns(
            pl.col("correct").fill_null(float("nan")),
            (pl.col("reasoning_tokens") + pl.col("visible_tokens")).alias("output_tokens"),
            (pl.col("status") == "completed").alias("answered"),
            (pl.col("cost_usd") if billed else pl.lit(0.0)).alias("usd"),
        )
        seen = as_requests(result.model, draw(result.model, 0)) if seen is None else seen
    assert seen is not None
    assert len(seen) == len(next(iter(records.values())))
    offered = np.array([[not sources or one in serving[arm] for arm in model.arm_names] for one in seen.sources])
    band = _bands(seen)
    expected = {
        arm: {said: _means(table[name].to_numpy().astype(np.float64), band) for name, said in _FIGURES.items()}
        for arm, table in records.items()
    }
    return EveryArm(scenario, seen, tuple(model.arm_names), offered[seen.source], records, expected)


def _bands(requests: Requests, bands: int = 10) -> I64:
    by = requests.scores.get("difficulty", requests.prompt_tokens.astype(np.float64))
    return np.asarray(np.searchsorted(np.quantile(by, np.linspace(0, 1, bands + 1)[1:-1]), by), dtype=np.int64)


def _means(values: F64, band: I64) -> F64:
    return np.asarray((np.bincount(band, values) / np.maximum(np.bincount(band), 1))[band])


@dataclass(frozen=True)
class Logged:
    """Lines of a log, and what was drawn: arm, policy's arm and propensity of each request, (n,)."""

    lines: list[dict[str, Any]] = field(repr=False)
    arm: I64
    policy_arm: I64
    propensity: F64

    def write(self, *paths: Path) -> Sequence[Path]:
        """Write the lines, dealt out over the files."""
        for k, path in enumerate(paths):
            path.write_text("".join(json.dumps(line) + "\n" for line in self.lines[k :: len(paths)]))
        return paths


def logged(
    every: EveryArm,
    share: float = 0.0,
    *,
    seed: int = 1,
    policy: Policy | str | None = None,
    graded: float = 1.0,
    graded_later: float = 0.0,
    plan: str = "0123456789ab",
    began: datetime.datetime = BEGAN,
) -> Logged:
    """Log a policy that tries one of the offered arms at random for a share of the requests.

    Args:
        policy: instead of the scenario's own.
        graded: share of the answers that somebody grades; graded_later: share of those grades that stand in lines of their own.
        plan: first digits of its file's SHA-256.
    """
    n, at_all = len(every), np.arange(len(every))
    u = uniforms(seed, "exploring", n, 4)
    wanted = every.chosen(policy)
    able = every.offered.sum(axis=1)
    nth = np.minimum((u[:, 1] * able).astype(np.int64), able - 1)
    tried = np.array([np.flatnonzero(row)[k] for row, k in zip(every.offered, nth, strict=True)])
    arm = np.where(u[:, 0] < share, tried, wanted)
    propensity = share / able + (1 - share) * (arm == wanted)
    rows = {name: table.to_dicts() for name, table in every.records.items()}
    lines: list[dict[str, Any]] = []
    for i in at_all.tolist():
        name = every.arms[arm[i]]
        request, row = f"r{seed}-{i}", rows[name][i]
        at = began + datetime.timedelta(seconds=float(row["arrival_s"]))
        strategy = every.scenario.parsed_strategy(name)
        known = {said: float(values[i]) for said, values in every.expected[name].items()}
        offered = tuple(every.arms[k] for k in np.flatnonzero(every.offered[i])) if share else ()
        decision = Decision(
            request=request,
            at=at,
            plan=plan,
            source=every.requests.sources[every.requests.source[i]],
            session=None,
            arm=name,
            deployment=every.scenario.arms[name].deployment,
            strategy=strategy,
            max_tokens=strategy.attempt_cap,
            prompt_tokens=int(every.requests.prompt_tokens[i]),
            scores={key: float(values[i]) for key, values in every.requests.scores.items()},
            predicted=Predicted(**{key: None if np.isnan(value) else value for key, value in known.items()}),
            why="simulated",
            propensity=float(propensity[i]),
            policy_arm=every.arms[wanted[i]],
            arms=offered,
        )
        lines.append(decision.as_line())
        status = _STATUS[row["status"]]
        known_right = status == "answered" and u[i, 2] < graded and not np.isnan(row["correct"])
        later = known_right and u[i, 3] < graded_later
        first = row["ttft_s"]
        outcome = Outcome(
            request=request,
            at=at + datetime.timedelta(seconds=float(row["latency_s"])),
            arm=name,
            status=status,
            latency_s=float(row["latency_s"]),
            first_token_s=None if first is None or not first <= row["latency_s"] else float(first),
            calls=1,
            prompt_tokens=int(row["prompt_tokens"]),
            cached_tokens=0,
            reasoning_tokens=int(row["reasoning_tokens"]),
            visible_tokens=int(row["visible_tokens"]),
            usd=float(row["usd"]),
            correct=bool(row["correct"]) if known_right and not later else None,
        )
        lines.append(outcome.as_line())
        if later:
            lines.append(grade_line(request, bool(row["correct"])))
    return Logged(lines, arm, wanted, propensity)
