"""The way in: what is explored, checked before a widget is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ttc_sim.base.arguments import count
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.base.threads import one_thread
from ttc_sim.exploring.trying import Trying
from ttc_sim.optimizer.plan import Plan, SavedPlan
from ttc_sim.optimizer.whatif.carrying_out import Given, scenario_of
from ttc_sim.scenario import MOST_REPLICATIONS, Scenario

if TYPE_CHECKING:
    from ttc_sim.exploring.widget import Explorer


@one_thread()
def explore(
    scenario: Scenario | Plan | SavedPlan | str | Path,
    *,
    replications: int | None = None,
    requests: int | None = None,
    allow_code: AllowCode = False,
) -> Explorer:
    """Sliders over a scenario or plan, in a notebook: what each setting comes to, beside the base, as soon as it is moved.

    Thresholds of the policy's bands (or its prices of accuracy and of a second), caps of the arms that it sends requests to,
    prices, traffic, replicas and speed of endpoints may be moved. Accuracy, US dollars and latency are those of
    :func:`ttc_sim.what_if` for the same values and requests, with the same intervals: every move is simulated, on the same random
    numbers. ``changes`` of what is returned are the paths and values as ``what_if`` takes them, ``command`` is the line for
    ``ttc-sim whatif``.

    Args:
        scenario: itself, a plan, the file of either, or the name of a shipped scenario.
        replications, requests: of every run, instead of the scenario's.
        allow_code: as for :func:`ttc_sim.simulate`.

    Raises:
        InputError: no policy, an argument out of its range, or ``anywidget`` is not installed.

    >>> explorer = explore("reasoning-gateway", requests=200)  # doctest: +SKIP
    >>> explorer.setting = {"policy.at": 0.5, "arms.r1.cap": 2048}  # doctest: +SKIP
    >>> explorer.changes["arms.r1.strategy"]  # doctest: +SKIP
    'Single(cap=2048)'
    """
    if replications is not None:
        replications = count("explore", "replications", replications, 1, MOST_REPLICATIONS, "runs")
    if requests is not None:
        requests = count("explore", "requests", requests, 1, MOST_REQUESTS, "requests")
    try:
        from ttc_sim.exploring.widget import Explorer
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "ipywidgets", "traitlets"):
            raise
        raise InputError("packages", "anywidget", "not installed", "pip install 'ttc-sim[notebook]'") from None
    loaded, _ = scenario_of(scenario, "explore", allow_code)
    if loaded.parsed_policy() is None:
        expected = "a policy such as Always('small'), or a plan that `ttc-sim optimize` made"
        raise InputError(loaded.path, "policy", None, expected)
    desk = Trying(Given(loaded, False, replications or loaded.replications, requests), lambda _: None)
    options = [("--requests", requests), ("--replications", replications)]
    words = [f"{option} {value}" for option, value in options if value is not None]
    return Explorer(desk, " ".join(["ttc-sim whatif", _file_of(scenario, loaded), *words]))


def _file_of(given: object, loaded: Scenario) -> str:
    """As a command line has it; in capitals what is in no file yet."""
    if isinstance(given, (str, Path)):
        return str(given)
    if isinstance(given, (Plan, SavedPlan)):
        return "PLAN"
    return loaded.path if Path(loaded.path).is_file() else "SCENARIO"


__all__ = ["explore"]
