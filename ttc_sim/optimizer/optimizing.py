"""``ttc.optimize``: a plan for the scenario as it is, or for several worlds at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.optimizer.plan import Plan
from ttc_sim.optimizer.planning import plan_model, targets_of
from ttc_sim.optimizer.robust import plan_for_worlds, read_worlds
from ttc_sim.optimizer.robust.reading import Said, in_scenario
from ttc_sim.scenario import Scenario, as_scenario
from ttc_sim.scenario.robust import Robust, over_what
from ttc_sim.simulation.model import load_model


@shows_progress()
@one_thread()
def optimize(
    scenario: Scenario | str | Path,
    progress: Telling = None,
    *,
    robust: bool | str | Path | Robust | Mapping[str, object] | Sequence[object] | None = None,
    over: str | float | None = None,
    allow_code: AllowCode = False,
) -> Plan:
    """Find the policy, caps and capacity that best meet the scenario's targets.

    A mixed-integer program over bands of predicted scores and arms proposes; simulation checks latency and timeouts, and
    tightens the program's limits until they hold; independent runs on fresh seeds verify. Accuracy and cost are corrected
    for having been chosen on the problems they are measured on. The same is done for the prices of ``Utility``; that is the plan
    where it gains more than noise, else the bands are, which a person can read.

    Of traffic without problems accuracy is unknown: caps, arms and capacity are chosen by cost, latency and the shares of requests
    that are dropped or cut off (:mod:`ttc_sim.optimizer.without_problems`).

    Args:
        scenario: with ``targets``: itself, its file, or the name of a shipped one.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        robust: worlds to plan for at once, beside the scenario as it is: ``True`` for all ready-made ones, names of these joined by
            commas, a file, or worlds as :class:`ttc_sim.scenario.robust.Robust` has them, also by name as for
            :func:`ttc_sim.what_if`: ``{"busy": {"ready.traffic": "2x"}}``. Those of the scenario's ``targets.robust`` if left out;
            ``False`` for none.
        over: ``"worst"``, or the share of the worlds that must hold, above 0 and at most 1, instead of what stands beside them.
        allow_code: whether functions in files that arms name may run, beside what the scenario was given: every arm is carried
            out. See :func:`ttc_sim.load_scenario`.

    Raises:
        InputError: no targets, or such as nothing is known of, a scenario that is wrong since it was changed in Python, or worlds
            that cannot be planned for.

    >>> plan = optimize("reasoning-gateway")  # doctest: +SKIP
    >>> plan = optimize("reasoning-gateway", robust={"busy": {"ready.traffic": "2x"}})  # doctest: +SKIP
    """
    scenario = as_scenario(scenario, "optimize", allow_code)
    say = telling("optimize", progress)
    targets = targets_of(scenario)
    said = _said(robust, scenario)
    if over is not None:
        said = _over(over, said)
    scenario.check_consent()
    if said is None:
        if targets.robust is not None:
            scenario = scenario.model_copy(update={"targets": targets.model_copy(update={"robust": None})})
        return plan_model(load_model(scenario), say)
    return plan_for_worlds(load_model(scenario), said, say)


def _said(robust: object, scenario: Scenario) -> Said | None:
    """The worlds that were asked for, if any were."""
    assert scenario.targets is not None
    if robust is False:
        return None
    if robust is None:
        standing = scenario.targets.robust
        return None if standing is None else in_scenario(standing, scenario.path)
    return read_worlds(robust, scenario.path)


def _over(over: object, said: Said | None) -> Said:
    """The same worlds over another share of them."""
    if said is None:
        raise InputError("optimize", "over", over, "worlds beside it (robust=..., --robust, or targets.robust)")
    try:
        return replace(said, over=over_what(over))
    except ValueError as error:
        raise InputError("optimize", "over", over, str(error)) from None


__all__ = ["optimize"]
