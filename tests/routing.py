"""Where a plan sends prompts, asked of its runtime: for other ways to carry it out to be compared with (relation 15)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

import ttc_sim as ttc
from ttc_sim.deploying import Runtime
from ttc_sim.deploying.decisions import Decision
from ttc_sim.scenario import Scenario


@dataclass(frozen=True)
class Asked:
    """A prompt of a source, as it is routed; ``key`` names it."""

    key: str
    source: str
    prompt: str
    prompt_tokens: int


@dataclass(frozen=True)
class Route:
    """An arm, its cap and strategy, and the scores that it was chosen by."""

    arm: str
    deployment: str
    max_tokens: int | None
    strategy: str
    scores: Mapping[str, float]

    @classmethod
    def of(cls, decision: Decision) -> Route:
        """Of a decision."""
        return cls(
            decision.arm, decision.deployment, decision.max_tokens, repr(decision.strategy), dict(decision.scores)
        )


def routes_of(plan: str | Path, asked: Iterable[Asked], **options: Any) -> dict[str, Route]:
    """Where the runtime of a saved plan sends each prompt, by the prompt's key."""
    runtime = runtime_of(plan, **options)
    return {one.key: Route.of(runtime.route(one.prompt, one.source, prompt_tokens=one.prompt_tokens)) for one in asked}


def runtime_of(plan: str | Path, *, allow_code: bool = False, **options: Any) -> Runtime:
    """The runtime of a saved plan."""
    runtime = ttc.load_plan(plan, allow_code=allow_code).runtime(**options)
    assert isinstance(runtime, Runtime)
    return runtime


def saved_plan(path: Path, planned: Scenario) -> Path:
    """As :meth:`ttc_sim.optimizer.plan.Plan.save` writes it, of a scenario that has a policy."""
    content = planned.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw = {"ttc_sim_plan": 3, "promised": {}, "made_from": Path(planned.path).name, "scenario": content}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def shipped_problems(shared: Path, problem_set: str, every: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Some of the problems of a shipped set, with prompts, and under its own keys in a column ``key``; and attempts."""
    folder = shared / {"math": "math-attempts"}.get(problem_set, problem_set)
    problems, attempts = (pl.read_parquet(folder / f"{name}.parquet") for name in ("problems", "attempts"))
    keys = ["dataset", "problem_id"] if "dataset" in problems.columns else ["problem_id"]
    problems = problems.sort(keys).gather_every(every)
    problems = problems.with_columns(key=pl.concat_str(keys, separator="/"))
    return problems, attempts.join(problems.select(keys), on=keys, how="semi")
