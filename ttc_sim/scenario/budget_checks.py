"""Whether a budget fits the rest of the scenario, and when its days begin."""

from __future__ import annotations

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.times import DAY_S
from ttc_sim.scenario.deployments import Api
from ttc_sim.scenario.document import Scenario
from ttc_sim.scenario.moments import moment_of


def check_budget(scenario: Scenario) -> None:
    """See that a budget limits something, and that what it degrades to is there.

    Raises:
        InputError: a source or an arm that is not there, an arm that is not offered to a source, or is the only one there is; no
            API that would cost anything; shapes that say different times of day.
    """
    budget, path = scenario.budget, scenario.path
    if budget is None:
        return
    sources = scenario.workload.sources
    for source, one in budget.of_all.items():
        field = "budget" if source is None else f"budget.sources.{source}"
        if source is not None and source not in sources:
            raise InputError(path, "budget.sources", source, nearest(source, sources))
        if one.to is None:
            continue
        if one.to not in scenario.arms:
            raise InputError(path, f"{field}.to", one.to, nearest(one.to, scenario.arms))
        for name in sources if source is None else [source]:
            check_degraded(scenario, field, one.to, name, _said_offered(scenario, name))
        if len(scenario.arms) == 1:
            raise InputError(path, f"{field}.to", one.to, "another arm than the only one: nothing would change")
    if not any(isinstance(item, Api) for item in scenario.deployments.values()):
        expected = "an API among the deployments: the hours of GPU pools are paid for whatever is sent to them, and count nothing"
        raise InputError(path, "budget", budget.model_dump(exclude_defaults=True), expected)
    first_turn_s(scenario)


def _said_offered(scenario: Scenario, source: str) -> list[str]:
    """Arms that are offered to a source as far as the scenario alone says."""
    return [name for name, arm in scenario.arms.items() if arm.sources is None or source in arm.sources]


def check_degraded(scenario: Scenario, field: str, to: str, source: str, offered: list[str]) -> None:
    """Refuse an arm that requests of a source cannot be degraded to, or would go to in any case.

    Args:
        field: of the budget; offered: arms that are offered to the source. One of ``sources: []`` is there for this, too.

    Raises:
        InputError: either.
    """
    if scenario.arms[to].sources != [] and to not in offered:
        expected = f"an arm that is offered to source {source}: " + ", ".join(offered)
        raise InputError(scenario.path, f"{field}.to", to, expected)
    if offered == [to]:
        expected = f"another arm than the only one that is offered to source {source}: nothing would change"
        raise InputError(scenario.path, f"{field}.to", to, expected)


def first_turn_s(scenario: Scenario) -> float:
    """When the first day of the budget ends, in seconds from the start of the run; above 0, at most a day.

    Raises:
        InputError: shapes that start at different times of day.
    """
    assert scenario.budget is not None
    begins = moment_of(scenario.workload.begins)
    starts_h = None if begins is None else begins.hour + begins.minute / 60 + begins.second / 3600
    for stream in scenario.workload.streams:
        shape = getattr(stream.arrivals, "shape", None)
        if shape is None or (shape.by_hour is None and shape.by_weekday is None):
            continue
        if starts_h is not None and shape.starts_h % 24 != starts_h:
            expected = (
                f"the time of day that the others start at, {_clock(starts_h)}: a budget's day begins for all at once"
            )
            raise InputError(scenario.path, f"{stream.field}.shape.starts", shape.starts or "00:00", expected)
        starts_h = shape.starts_h % 24
    left_s = (scenario.budget.resets_s - 3600.0 * (starts_h or 0.0)) % DAY_S
    return left_s or DAY_S


def _clock(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


__all__ = ["check_budget", "check_degraded", "first_turn_s"]
