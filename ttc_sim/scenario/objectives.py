"""Which targets may be asked for, by whether problems stand behind the traffic."""

from __future__ import annotations

from ttc_sim.base.errors import InputError
from ttc_sim.scenario.document import Scenario


def check_objective(scenario: Scenario) -> None:
    """See that what is asked for can be known of the scenario's traffic, and that no trivial plan meets it.

    Raises:
        InputError: a target that nothing is known of, or one that is missing.
    """
    targets, path = scenario.targets, scenario.path
    if targets is None:
        return
    least, most = targets.minimize, targets.maximize
    if scenario.workload.has_problems:
        trivial = {"cost": "cheapest", "cost_usd_per_day": "cheapest", "goodput": "fastest"}.get(str(least or most))
        trivial = "fastest" if targets.fastest else trivial
        if trivial is not None and targets.accuracy is None:
            made = f"minimize: {least}" if most is None else f"maximize: {most}"
            expected = f"an 'accuracy' target beside '{made}': without one the {trivial} arm always wins"
            raise InputError(path, "targets", asked(scenario), expected)
        cut_off = next((one for one in targets.asked() if one.key == "cut_off_rate"), None)
        if cut_off is not None:
            expected = "no such target beside sources of problems: there an answer cut off is a wrong one, and 'accuracy' has it"
            raise InputError(path, f"targets.{cut_off.name}", cut_off.bound, expected)
        return
    if any(arm.profile is not None for arm in scenario.arms.values()):
        return  # agent profiles say how sessions end
    unknown = "nothing is known of accuracy without problems (workload.sources)"
    if most in ("accuracy", "accuracy_per_usd"):
        expected = f"'minimize: cost', 'minimize: latency_p95_s' or 'maximize: goodput': {unknown}"
        raise InputError(path, "targets.maximize", most, expected)
    if targets.frontier is not None and "accuracy" in targets.frontier:
        expected = f"two of cost, goodput and percentiles such as latency_p95_s: {unknown}"
        raise InputError(path, "targets.frontier", targets.frontier, expected)
    if targets.accuracy is not None:
        expected = f"targets of cost, latency, timeout_rate and cut_off_rate: {unknown}"
        raise InputError(path, "targets.accuracy", targets.accuracy, expected)


def asked(scenario: Scenario) -> dict[str, object]:
    """The targets as they were given."""
    assert scenario.targets is not None
    return scenario.targets.model_dump(exclude_none=True)
