"""What a report says of a plan or scenario, worked out: it is simulated as it stands, beside others and in variations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.files.documents import read_yaml
from ttc_sim.optimizer.baselines import compare_with_baselines
from ttc_sim.optimizer.checking_plans import Examined, check_plan
from ttc_sim.optimizer.promises import TargetVerdict, judged
from ttc_sim.optimizer.whatif import WhatIf, what_if
from ttc_sim.optimizer.whatif.carrying_out import Desk, Given
from ttc_sim.optimizer.whatif.saying import Variation, in_python
from ttc_sim.scenario import Api, GpuPool, Scenario, find_scenario, load_scenario
from ttc_sim.simulation.over_time import OverTime
from ttc_sim.simulation.pooling import HOUR_S
from ttc_sim.simulation.result import Result, simulate
from ttc_sim.simulation.summary import Summary

_INTERVALS = 24
"""Of a run that is shorter than a few hours: so many, of a round length."""
_ROUND_S = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, HOUR_S)


@dataclass(frozen=True)
class Gathered:
    """All that a report is written from.

    Attributes:
        scenario: as it is carried out; file: that was given; examined: of a plan, its file and checks; ``None`` of a scenario.
        result, summary, verdicts: of simulating it; baselines: of others on the same requests; day: the same over the clock.
        varied: in variations; ``None`` where nothing was varied.
        requests, replications: of the runs, where they were asked for instead of the scenario's.
        today: that ages are told as of.
    """

    scenario: Scenario
    file: str
    examined: Examined | None
    result: Result
    summary: Summary
    verdicts: tuple[TargetVerdict, ...]
    baselines: Mapping[str, Summary]
    day: OverTime
    varied: WhatIf | None
    requests: int | None
    replications: int | None
    today: datetime.date


@shows_progress()
@one_thread()
def gather(
    given: Scenario | str | Path,
    progress: Telling = None,
    *,
    vary: bool = True,
    requests: int | None = None,
    replications: int | None = None,
    as_of: datetime.date | None = None,
    allow_code: AllowCode = False,
) -> Gathered:
    """Simulate a plan's file, or a scenario with a policy.

    Args:
        given: the file, the name of a shipped scenario, or a scenario itself.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        vary: whether it is simulated in variations too.
        requests, replications: of the runs, instead of the scenario's.
        as_of: that prices and measurements of a plan are old as of; today if left out.
        allow_code: as for :func:`ttc_sim.load_plan`.

    Raises:
        InputError: no such file, a scenario without a policy, one that cannot be simulated, or ``as_of`` beside a scenario.
    """
    say = telling("report", progress)
    examined, scenario = _read(given, say, as_of, allow_code)
    if scenario.parsed_policy() is None:
        expected = "a policy such as Always('small'), or a plan that `ttc-sim optimize --plan` wrote"
        raise InputError(scenario.path, "policy", None, expected)
    result = simulate(scenario, requests=requests, replications=replications, progress=say)
    summary = result.summary()
    day = result.tables_over_time(_interval_s(result))
    baselines = compare_with_baselines(result, summary, requests=requests, progress=say)
    varied = None
    asked = _variations(scenario, summary, requests, replications) if vary else []
    if asked:
        varied = what_if(scenario, asked, requests=requests, replications=replications, progress=say)
    return Gathered(
        scenario=scenario,
        file=scenario.path if isinstance(given, Scenario) else str(given),
        examined=examined,
        result=result,
        summary=summary,
        verdicts=judged(result),
        baselines=baselines,
        day=day,
        varied=varied,
        requests=requests,
        replications=replications,
        today=as_of or datetime.date.today(),
    )


def _read(
    given: Scenario | str | Path, progress: Progress, as_of: datetime.date | None, allow_code: AllowCode
) -> tuple[Examined | None, Scenario]:
    if isinstance(given, Scenario):
        _refuse_ages(as_of)
        return None, given
    path = find_scenario(location("report", "file", given, "a plan's file, a scenario's or a result's"))
    raw = read_yaml(path, expected="a plan, a scenario, or a result that --json wrote")
    if isinstance(raw, dict) and "ttc_sim_plan" in raw:
        examined = check_plan(path, as_of, progress, allow_code=allow_code)
        return examined, examined.plan.scenario
    _refuse_ages(as_of)
    return None, load_scenario(path, allow_code=allow_code)


def _refuse_ages(as_of: datetime.date | None) -> None:
    if as_of is not None:
        raise InputError(
            "report", "as_of", as_of.isoformat(), "a plan's file beside it: nothing is said of a scenario's age"
        )


def _interval_s(result: Result) -> float:
    """An hour, of a run of a day; else so that there are some two dozen."""
    lasts_s = float(result.records["arrival_s"].max() or 0.0)  # type: ignore[arg-type]
    return next((one for one in _ROUND_S if one * _INTERVALS >= lasts_s), HOUR_S)


def _variations(
    scenario: Scenario, summary: Summary, requests: int | None, replications: int | None
) -> list[Variation]:
    """What may well come otherwise than assumed, as far as it can of this scenario."""
    asked: dict[str, dict[str, object]] = {
        "half the requests": {"ready.traffic": "0.5x"},
        "half as many again": {"ready.traffic": "1.5x"},
        "twice the requests": {"ready.traffic": "2x"},
        "answers 1.3 times as long": {"ready.lengths": "1.3x"},
        "without the predictor": {"ready.predictor": "none"},
    }
    for name in sorted({*summary.replicas, *summary.prices}):
        deployment = scenario.deployments[name]
        if isinstance(deployment, GpuPool) and deployment.autoscaling is None:
            asked[f"one replica more of {name}"] = {f"deployments.{name}.replicas": deployment.replicas + 1}
            if deployment.replicas > 1:
                asked[f"one replica fewer of {name}"] = {f"deployments.{name}.replicas": deployment.replicas - 1}
        elif isinstance(deployment, Api):
            asked[f"{name} a fifth dearer"] = {f"deployments.{name}.price.factor": "1.2x"}
    if scenario.workload.arrivals is not None and scenario.workload.arrivals.process == "sessions":
        asked |= {"nothing found in caches": {"ready.cache": "off"}, "never switching": {"ready.switch": "never"}}
    desk = Desk(Given(scenario, False, replications or scenario.replications, requests), lambda _: None)
    possible = []
    for one in in_python(asked):
        try:
            desk.prepared(one)
        except InputError:
            continue  # nothing that this scenario has
        possible.append(one)
    return possible


__all__ = ["Gathered", "gather"]
