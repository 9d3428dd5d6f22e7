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
    least = targets.minimize
    if scenario.workload.has_problems:
        if targets.cheapest and targets.accuracy is None:
            expected = f"an 'accuracy' target beside 'minimize: {least}': without one the cheapest arm always wins"
            raise InputError(path, "targets", asked(scenario), expected)
        if targets.fastest:
            expected = (
                "'minimize: cost' or 'maximize: accuracy': latency is minimized of traffic without problems alone"
            )
            raise InputError(path, "targets.minimize", least, expected)
        cut_off = next((one for one in targets.asked() if one.key == "cut_off_rate"), None)
        if cut_off is not None:
            expected = "no such target beside sources of problems: there an answer cut off is a wrong one, and 'accuracy' has it"
            raise InputError(path, f"targets.{cut_off.name}", cut_off.bound, expected)
        return
    unknown = "nothing is known of accuracy without problems (workload.sources)"
    if targets.maximize is not None:
        expected = f"'minimize: cost' or 'minimize: latency_p95_s': {unknown}"
        raise InputError(path, "targets.maximize", targets.maximize, expected)
    if targets.accuracy is not None:
        expected = f"targets of cost, latency, timeout_rate and cut_off_rate: {unknown}"
        raise InputError(path, "targets.accuracy", targets.accuracy, expected)
    if targets.fastest and getattr(targets, str(least)) is not None:
        raise InputError(path, f"targets.{least}", getattr(targets, str(least)), f"none beside 'minimize: {least}'")


def asked(scenario: Scenario) -> dict[str, object]:
    """The targets as they were given."""
    assert scenario.targets is not None
    return scenario.targets.model_dump(exclude_none=True)
